"""The simulated engine before it is made: a profile is its model, and the machine it claims to be."""

from protos.contract.worker import Hardware
from workers.engines.base import LoadError
from workers.engines.simulated.profile import ProfileError, read_profile
from workers.engines.spec import EngineSpec


class Simulated(EngineSpec):
    """Profiles, by path or by the name of one that ships."""

    name = "simulated"
    serves = "profiles of machines, without weights"
    factory = "workers.engines.simulated.engine:SimulatedEngine"

    def check(self, path: str) -> None:
        """The profile can be read."""
        self.hardware_of(path, "")

    def computes_here(self, base_url: str) -> bool:
        """It computes nothing: a hundred on one machine are a hundred machines."""
        del base_url
        return False

    def hardware_of(self, path: str, quantization: str) -> Hardware:
        """Hardware of kind "simulated", named "simulated H100 SXM": what the fleet table shows."""
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
