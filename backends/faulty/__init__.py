"""The zoo: backends that are wrong on purpose, ``faulty:NAME``, to measure what the suite finds.

Each is a small change to the reference backend, or to the CUDA backend on the simulated driver, with one defect that
really happened somewhere. :mod:`.frame` says what a defect is; the other modules hold them by part of the contract,
those of the CUDA backend in modules whose names begin with ``over_cuda``. No other package imports this one.
"""

import importlib
import pkgutil

from pytest_cuda2hal.hal import Backend

from .frame import ZOO, Chance, Defect, open_faulty

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

#: The name of every defect.
NAMES: tuple[str, ...] = tuple(sorted(ZOO))

BACKEND = Backend(
    name="faulty",
    summary="wrong on purpose, to measure what the suite finds",
    open=open_faulty,
    variants={name: ZOO[name].summary for name in NAMES},
    listed=False,
)

__all__ = ["BACKEND", "NAMES", "ZOO", "Chance", "Defect", "open_faulty"]
