"""Three CUDA backends that do well until a driver call fails, for the fault loop to convict."""

from __future__ import annotations

from pytest_cuda2hal.backends.cuda.actions import ExecuteAction, State
from pytest_cuda2hal.backends.cuda.device import CudaDevice
from pytest_cuda2hal.backends.cuda.driver import CudaError
from pytest_cuda2hal.backends.cuda.engine import Engine
from pytest_cuda2hal.backends.faulty.failing_calls import Loop, Plan, open_with
from pytest_cuda2hal.hal import HalError


class SignalsNobody(ExecuteAction):
    def ended(self, engine: Engine, error: HalError | None) -> None:
        super().ended(engine, error)
        if isinstance(error, CudaError) and self.state in (State.ISSUING, State.IN_FLIGHT):
            self.signals = []


class LosesSignals(CudaDevice):
    """A launch that the driver refuses leaves its signals as they are (IREE 1bb26cb345, S2)."""

    execute_class = SignalsNobody


class Leaks(CudaDevice):
    """After a failed call somebody who left is still counted as a user of the context, which is never given back."""

    def close(self) -> None:
        if Loop.plan is not None and Loop.plan.failed:
            self.engine.context.enter("somebody")
        super().close()


class Hangs(CudaDevice):
    """Closing waits for a submission that failed, as if the device were still at it."""

    def close(self) -> None:
        if Loop.plan is not None and Loop.plan.failed:
            while not self.engine.closed:
                self.engine.service_alarm.wait(0.01)
        super().close()


def _opener(device_class: type[CudaDevice]) -> object:
    def open_broken() -> CudaDevice:
        return open_with(Loop.plan or Plan(), device_class)

    return open_broken


loses_signals = _opener(LosesSignals)
leaks = _opener(Leaks)
hangs = _opener(Hangs)
