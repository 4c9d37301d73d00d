"""Settings of a load test: checked before anything is sent."""

import argparse

import pytest

from loadtest.locust.options import BadOptions, Options, add_arguments, check, read_options


def parsed(*arguments: str) -> argparse.Namespace:
    class Parser(argparse.ArgumentParser):
        """Locust's takes two arguments more."""

        def add_argument(
            self, *names: str, is_secret: bool = False, env_var: str = "", **more: object
        ) -> argparse.Action:  # type: ignore[override]
            return super().add_argument(*names, **more)  # type: ignore[arg-type]

    parser = Parser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_every_setting_has_a_flag_and_its_default() -> None:
    assert read_options(parsed(), None) == Options(url="http://127.0.0.1:8000")
    given = read_options(
        parsed("--rate", "2.5", "--slo-tpot=0", "--ignore-eos", "no", "--closed=4"), "http://[::1]:9/v1/"
    )
    assert (given.url, given.rate, given.ignore_eos, given.closed) == ("http://[::1]:9/v1", 2.5, False, 4)
    assert given.slo.tpot_s is None


@pytest.mark.parametrize("host", ["example.org", "10.0.0.7", "192.168.1.4", "172.16.0.1", "0.0.0.0", "[2001:db8::1]"])
def test_a_server_that_is_not_this_machine_is_loaded_only_when_that_is_said(host: str) -> None:
    options = Options(url=f"http://{host}:8000")
    with pytest.raises(BadOptions, match="--allow-remote"):
        check(options, allow_remote=False)
    check(options, allow_remote=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.1"])
def test_loopback_is_this_machine(host: str) -> None:
    check(Options(url=f"http://{host}:8000"), allow_remote=False)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"url": "ftp://127.0.0.1"}, "no URL"),
        ({"workload": "chat"}, "azure-like"),
        ({"shape": "zigzag"}, "steady, ramp"),
        ({"rate": 0.0}, "--rate"),
        ({"duration_s": -1.0}, "--duration"),
        ({"duration_s": float("nan")}, "--duration"),
        ({"duration_s": 1e9}, "ends by itself"),
        ({"rate": 1e9}, "ends by itself"),
        ({"closed": -1}, "--closed"),
        ({"steps": 0}, "--steps"),
        ({"max_in_flight": 0}, "--max-in-flight"),
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(BadOptions, match=said):
        check(Options(**{"url": "http://127.0.0.1:1", **wrong}), allow_remote=False)  # type: ignore[arg-type]
