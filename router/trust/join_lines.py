"""The lines that `allsorts token create` prints: a short one, and one for machines that have nothing but Python."""

import msgspec

from protos.contract.addresses import join_host_port

INSTALLER = "/installer.py"
INSTALL_FACT = "install"
"""The fact in the store that tells ``allsorts token create`` where a router hands itself out."""

CANNOT_CHANGE = "another version than this line was made for; make a new line with: allsorts token create"


class InstallFact(msgspec.Struct, frozen=True, kw_only=True):
    """Where a router hands itself out, and the hash of the script that it begins with."""

    port: int
    installer_sha256: str


def short_line(enrol_address: str, token: str) -> str:
    """For a machine that has allsorts."""
    return f"allsorts join {enrol_address} --token {token}"


def bare_line(enrol_address: str, fact: InstallFact, token: str) -> str:
    """For a machine that has Python, or uv, and nothing else. POSIX sh, bash and zsh.

    This first connection trusts nobody and sends nothing: what comes is run only if it has the hash in the line.
    """
    host = enrol_address.rpartition(":")[0]
    where = join_host_port(host.strip("[]"), fact.port)
    code = (
        "import hashlib,http.client,ssl,sys;"
        f'd="{where}";'
        'sys.excepthook=lambda *e:print("allsorts:",d,e[1],file=sys.stderr);'
        "c=http.client.HTTPSConnection(d,timeout=20,context=ssl._create_unverified_context());"
        f'c.request("GET","{INSTALLER}");'
        "b=c.getresponse().read();"
        f'hashlib.sha256(b).hexdigest()=="{fact.installer_sha256}"or '
        f'sys.exit("allsorts: "+d+" hands out {CANNOT_CHANGE}");'
        'exec(b,{"door":d})'
    )
    python = "$(command -v uv >/dev/null && echo uv run -q --no-project) python3"
    return f"{python} -c '{code}' {enrol_address} {token}"
