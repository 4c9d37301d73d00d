"""The machine a simulated worker claims to be, from its profile: what the fleet table shows."""

from workers.engines.base import LoadError
from workers.engines.simulated.profile import ProfileError, read_profile
from workers.facts import Hardware


def declared_hardware(path: str, quantization: str = "") -> Hardware:
    """Hardware of kind "simulated", named "simulated H100 SXM". Raises LoadError for a profile that cannot be read."""
    try:
        machine = read_profile(path, quantization=quantization).machine
    except ProfileError as error:
        raise LoadError(str(error)) from None
    return Hardware(
        kind="simulated",
        name=f"simulated {machine.name}",
        memory_bytes=int(machine.memory_bytes),
        usable_memory_bytes=int(machine.usable_bytes),
        bandwidth_bytes_per_s=machine.bandwidth_bytes_per_s,
        details={"engine": machine.engine},
    )
