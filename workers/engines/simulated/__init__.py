"""A simulated engine: the contract without weights. See README.md."""

from workers.engines.simulated.engine import SimulatedEngine

__all__ = ["SimulatedEngine"]
