"""What the faulty variants of the CUDA backend have in common: the simulated driver, and the chance."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ..cuda.device import CudaDevice
from ..cuda.engine import Engine
from ..cuda.parameters import Parameters
from ..cuda.simulator import SimulatedDriver
from .frame import Chance

#: Bytes of device memory, as of ``cuda-sim``.
MEMORY = 64 * 2**20


class FaultyEngine(Engine):
    """An engine whose device gives it the chance before anybody submits."""

    chance: Chance


class FaultyCuda(CudaDevice):
    """A CUDA device on the simulated driver whose parts ask :func:`strikes` before they do the wrong thing."""

    engine_class = FaultyEngine
    #: What differs from the default parameters.
    options: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        parameters = Parameters(**{"memory": MEMORY, **self.options})
        super().__init__(SimulatedDriver(memory=MEMORY), ordinal=0, parameters=parameters, versions={})
        assert isinstance(self.engine, FaultyEngine)
        self.engine.chance = chance


def strikes(engine: Engine) -> bool:
    """Tell whether the defect of a device shows this time."""
    return isinstance(engine, FaultyEngine) and engine.chance.strikes()
