"""Images are fetched from listed hosts at public addresses, and from nowhere else, however a URL is written."""

import pytest

from router.http.fetching.rules import ImageHosts, NotToBeFetched, is_public

HOSTS = ImageHosts(["img.example.org", ".cdn.example.com", "lab.example.net:8443"])


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://img.example.org/a.png", "img.example.org"),
        ("http://IMG.example.org./a.png?x=1#y", "img.example.org"),
        ("https://img.example.org:443/", "img.example.org"),
        ("https://a.b.cdn.example.com/x", "a.b.cdn.example.com"),
        ("https://lab.example.net:8443/x", "lab.example.net"),
    ],
)
def test_a_listed_host_is_taken(url: str, host: str) -> None:
    assert HOSTS.place(url).host == host


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://example.org/a.png", "not among the hosts"),
        ("https://img.example.org.evil.com/", "not among the hosts"),
        ("https://evilimg.example.org/", "not among the hosts"),
        ("https://cdn.example.com/", "not among the hosts"),
        ("https://xcdn.example.com/", "not among the hosts"),
        ("https://img.example.org:8080/", "img.example.org:8080 is not among"),
        ("http://img.example.org:443/", "not among the hosts"),
        ("https://lab.example.net/", "not among the hosts"),
        ("https://img.example.org@evil.com/", "user name"),
        ("https://user:word@img.example.org/", "user name"),
        ("https://evil.com\\@img.example.org/", "user name"),
        ("https://img.example.org%00.evil.com/", "not valid"),
        ("https://img.example.org\n.evil.com/", "not"),
        ("https:///a.png", "not valid"),
        ("https://[::1/", "not valid"),
        ("https://img.example.org:99999/", "not valid"),
        ("ftp://img.example.org/", "not valid"),
        ("file:///etc/passwd", "not valid"),
        ("https://img.example.org/" + "a" * 9000, "characters"),
    ],
)
def test_another_one_is_not(url: str, says: str) -> None:
    with pytest.raises(NotToBeFetched, match=says):
        HOSTS.place(url)


def test_every_public_host_where_the_operator_says_so() -> None:
    """An address that is not public stays out all the same, as do other ports."""
    everywhere = ImageHosts(["*"])
    assert everywhere.place("http://anything.example/").host == "anything.example"
    for url in ("http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest/meta-data", "http://x.org:6379/"):
        with pytest.raises(NotToBeFetched):
            everywhere.place(url)


def test_encryption_once_begun_is_kept() -> None:
    assert HOSTS.place("https://img.example.org/", from_https=True)
    with pytest.raises(NotToBeFetched, match="from https to http"):
        HOSTS.place("http://img.example.org/", from_https=True)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0",
        "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:7f00:1::",
    ],
)  # fmt: skip
def test_what_is_not_on_the_internet_is_not_public(address: str) -> None:
    """This machine, its networks, a cloud's metadata, and IPv4 addresses inside of IPv6 ones."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_what_is_on_the_internet_is_public(address: str) -> None:
    assert is_public(address)
