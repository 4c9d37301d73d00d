"""The script for bare machines, with what this head hands out filled in."""

from pathlib import Path

from protos.contract.joining.certificates import SERVER_NAME
from router.dist.own_wheel import Wheel


def installer(wheel: Wheel) -> bytes:
    """``bare_machine.py`` for this wheel: whoever trusts the script's hash trusts the wheel's."""
    text = Path(__file__).with_name("bare_machine.py").read_text(encoding="utf-8")
    for name, value in (("wheel", wheel.name), ("wheel_sha256", wheel.sha256), ("server_name", SERVER_NAME)):
        text = text.replace(f'"@{name}@"', f'"{value}"')
    return text.encode()
