"""What a faulty backend is made of: a defect with its history, and the chance with which it shows."""

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from pytest_cuda2hal.hal import BadOption, Device


class Chance:
    """Decides, again and again, whether a defect shows this time: on average 1 time in ``one_in``.

    The decisions follow from the seed and their number alone, so a run repeats as far as its threads do. It takes no
    lock, so that it may be asked anywhere, in a finalizer too: one call of :meth:`random.Random.random` is atomic.
    """

    def __init__(self, one_in: int = 1, seed: int | str = 0) -> None:
        self.one_in = one_in
        self._random = random.Random(seed)

    def strikes(self) -> bool:
        """Tell whether the defect shows this time; always, where it shows 1 time in 1."""
        return self.one_in == 1 or self._random.random() * self.one_in < 1


#: Opens a device whose defect asks the given chance. A class whose constructor takes one is such a function, too.
Opener = Callable[[Chance], Device]
Registered = TypeVar("Registered", bound=Opener)


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing done wrong on purpose."""

    name: str
    #: What is done wrong; the first line is the summary.
    text: str
    #: The commit or issue in which it really happened, with its project.
    happened: str
    #: The clauses of the contract that it breaks.
    clauses: tuple[str, ...]
    open: Opener
    #: It shows in 1 of so many chances.
    one_in: int = 1
    #: Seconds that a wait needs at least, where a short deadline would take what is slow for what hangs.
    deadline: float | None = None
    #: True where it may hang or end the process, so that its cases need processes of their own.
    hangs: bool = False

    @property
    def summary(self) -> str:
        """Return one line about it."""
        line = self.text.partition("\n")[0]
        return f"{line} (1 time in {self.one_in:,})" if self.one_in > 1 else line


#: Every defect by its name.
ZOO: dict[str, Defect] = {}


def defect(
    name: str,
    *,
    happened: str,
    clauses: tuple[str, ...],
    one_in: int = 1,
    rarely: tuple[int, ...] = (),
    deadline: float | None = None,
    hangs: bool = False,
) -> Callable[[Registered], Registered]:
    """Register the decorated device class, or function that opens one, as a defect.

    Its docstring says what is wrong; ``happened`` and ``clauses`` are added to it. Both are called with a
    :class:`Chance`, and ask it each time before they do the wrong thing.

    :param rarely: numbers N for which the same defect is registered once more, as ``NAME-1-in-N``.
    """

    def register(opener: Registered) -> Registered:
        text = inspect.cleandoc(opener.__doc__ or "")
        whole = Defect(name, text, happened, clauses, opener, one_in, deadline, hangs)
        for one in (whole, *(replace(whole, name=f"{name}-1-in-{number}", one_in=number) for number in rarely)):
            if one.name in ZOO:
                raise ValueError(f"two defects are named '{one.name}'")
            ZOO[one.name] = one
        opener.__doc__ = f"{text}\n\nHappened in {happened}.\n\nBreaks {', '.join(clauses)}."
        return opener

    return register


_opened = itertools.count()


def open_faulty(*, variant: str, seed: int = 0, one_in: int | None = None) -> Device:
    """Open a device with one defect.

    :param seed: which of the chances the defect takes. The devices of one process differ, since each is seeded with
        its number as well; the next run does the same again, unless it gets another seed.
    :param one_in: let the defect show in 1 of so many chances, instead of what its name says.
    """
    found = ZOO[variant]
    if one_in is None:
        one_in = found.one_in
    if one_in < 1:
        raise BadOption(f"backend 'faulty': option 'one_in' must be at least 1, not {one_in}")
    return found.open(Chance(one_in, f"{seed}/{next(_opened)}"))
