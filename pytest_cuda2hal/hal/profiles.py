"""Variation points and profiles: where systems legitimately differ, and who answers what.

A :class:`VariationPoint` is a question that the contract leaves open. A :class:`Profile` is a named set of answers. An
answer permits one or several of the known ones; it may also be *undefined* (no legal program asks, so the suite never
does) or *unstated* (nobody says; any known answer will do, and the suite reports which one it saw).

The data lives here, once: the reference backend behaves by it, the contract and the docs read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What one profile answers to one variation point.

    ``permitted`` holds the known answers that the profile allows, the usual one first. With ``undefined`` it is empty:
    asking is not legal there. ``source`` names the file, release or text that says so.
    """

    permitted: tuple[str, ...]
    source: str
    undefined: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """A number (``None``: no limit) instead of a behaviour."""

    value: int | None
    source: str


@dataclass(frozen=True, slots=True)
class VariationPoint:
    """A question the contract leaves open, the answers known to exist, and what each profile answers."""

    id: str
    question: str
    #: Known answers with their meaning; empty for a limit.
    known: Mapping[str, str]
    answers: Mapping[str, Answer | Limit]


_OURS = "pytest-cuda2hal contract, version 1"
_SEED = "IREE commit 1bb26cb345 (2023-07), experimental/cuda2"
_IREE = "IREE 3.13, runtime/src/iree/hal/semaphore.h and async/semaphore.c"
_IREE_CTS = "IREE b48a595 (2026-08), runtime/src/iree/hal/cts"
_VULKAN = "Vulkan 1.3, VK_KHR_timeline_semaphore"
_SILENT = "nothing says"

UNDEFINED_BY = {"seed": _SEED, "iree": _IREE, "vulkan": _VULKAN}


def _says(*permitted: str, source: str) -> Answer:
    return Answer(permitted, source)


def _undefined(profile: str) -> Answer:
    return Answer((), UNDEFINED_BY[profile], undefined=True)


def _point(
    id: str,
    question: str,
    known: Mapping[str, str],
    *,
    strict: str,
    seed: Answer | None = None,
    iree: Answer | None = None,
    vulkan: Answer | None = None,
) -> VariationPoint:
    """Build a point; a profile given as ``None`` is unstated: any known answer will do."""
    unstated = Answer(tuple(known), _SILENT)
    return VariationPoint(
        id,
        question,
        known,
        {
            "strict": _says(strict, source=_OURS),
            "seed": seed or unstated,
            "iree": iree or unstated,
            "vulkan": vulkan or unstated,
        },
    )


_POINTS = (
    VariationPoint(
        "value-max",
        "What is the largest legal value?",
        {},
        {
            "strict": Limit(2**64 - 2, _OURS),
            "seed": Limit(2**64 - 2, _SEED + "/event_semaphore.c: UINT64_MAX marks failure"),
            "iree": Limit(2**31 - 2, "IREE 3.13, IREE_HAL_SEMAPHORE_MAX_VALUE"),
            "vulkan": Limit(2**64 - 1, _VULKAN),
        },
    ),
    VariationPoint(
        "max-difference",
        "How far may one signal jump ahead of the value, or of a pending wait or signal?",
        {},
        {
            "strict": Limit(None, _OURS),
            "seed": Limit(None, _SEED),
            "iree": Limit(2**31 - 2, "IREE 3.13, hal/semaphore.h: chosen for Vulkan's lower bound"),
            "vulkan": Limit(2**31 - 1, "Vulkan 1.3, maxTimelineSemaphoreValueDifference, required minimum"),
        },
    ),
    _point(
        "value-out-of-range",
        "What does a value above value-max do?",
        {"OUT_OF_RANGE": "the call is refused with OUT_OF_RANGE and changes nothing"},
        strict="OUT_OF_RANGE",
        seed=_undefined("seed"),
        iree=_undefined("iree"),
        vulkan=_undefined("vulkan"),
    ),
    _point(
        "non-advancing-signal",
        "How does a caller hear that a signal does not advance the timeline?",
        {
            "OUT_OF_RANGE": "the call raises OUT_OF_RANGE",
            "INVALID_ARGUMENT": "the call raises INVALID_ARGUMENT",
            "ignored": "the call returns as if nothing had been wrong",
        },
        strict="OUT_OF_RANGE",
        seed=_says("OUT_OF_RANGE", source=_SEED + "/event_semaphore.c"),
        iree=_says(
            "INVALID_ARGUMENT",
            "ignored",
            source="IREE 3.13: hal/semaphore.h says ignored, async/semaphore.h says INVALID_ARGUMENT",
        ),
        vulkan=_undefined("vulkan"),
    ),
    _point(
        "overtaken-signal",
        "What does a device signal do that is not above the value when it is made?",
        {"no-op": "nothing; the timepoint counts as reached", "fails": "it fails the semaphore"},
        strict="no-op",
        seed=_says("no-op", source=_SEED + ": the error of the late signal is dropped"),
        iree=_says("fails", source="IREE 3.13, local-task and async/semaphore.c"),
        vulkan=_undefined("vulkan"),
    ),
    _point(
        "duplicate-signal",
        "What does a signal list do that names one semaphore several times?",
        {
            "maximum": "the semaphore ends at the largest value, whatever the order",
            "fails-unless-ascending": "values are signaled in list order; one that does not advance fails it",
        },
        strict="maximum",
        seed=_undefined("seed"),
        iree=_says("fails-unless-ascending", source="IREE 3.13, iree_hal_semaphore_list_signal"),
        vulkan=_undefined("vulkan"),
    ),
    _point(
        "failed-wait-code",
        "Which code does a wait raise on a failed semaphore?",
        {"cause": "the code of the failure", "ABORTED": "ABORTED; query has the cause"},
        strict="cause",
        seed=_says("ABORTED", source=_SEED + "/event_semaphore.c"),
        iree=_says("cause", source=_IREE_CTS + "/core/semaphore_test.cc, FailThenWait"),
    ),
    _point(
        "signal-after-failure",
        "What does signaling a failed semaphore raise?",
        {
            "failure": "the failure",
            "OUT_OF_RANGE": "OUT_OF_RANGE",
            "ignored": "nothing; the semaphore stays failed",
        },
        strict="failure",
        seed=_says("OUT_OF_RANGE", source=_SEED + "/event_semaphore.c"),
        iree=_says("failure", source="IREE 3.13, hal/semaphore.h: returned from query and signal for the lifetime"),
    ),
    _point(
        "failure-promptness",
        "When does a submission fail that has one failed and one unreached wait?",
        {"at-once": "when the first wait fails", "when-resolved": "when every wait has been reached or has failed"},
        strict="at-once",
        iree=_says("at-once", "when-resolved", source=_IREE),
    ),
    _point(
        "failed-at-submit",
        "What does a submission do whose wait list already holds a failed semaphore?",
        {"accepted": "it is accepted and fails its signals", "raises": "the call raises as well"},
        strict="accepted",
        iree=_says("accepted", "raises", source=_IREE_CTS + "/queue/queue_alloca_test.cc"),
    ),
    _point(
        "any-satisfied-and-failed",
        "What does a wait-any give over a reached and a failed semaphore?",
        {"failure": "the failure, wherever it stands", "list-order": "whichever stands first in the list"},
        strict="failure",
        iree=_says("failure", "list-order", source=_IREE),
    ),
    _point(
        "all-unreached-and-failed",
        "What does a wait-all with an expired timeout give over an unreached and a failed semaphore?",
        {"failure": "the failure", "DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED"},
        strict="failure",
        iree=_says("failure", "DEADLINE_EXCEEDED", source=_IREE),
    ),
    _point(
        "submission-order",
        "Do ready submissions of one queue act in the order of their submission?",
        {"none-promised": "only semaphores order them", "in-order": "they act in submission order"},
        strict="none-promised",
        seed=_says("in-order", source=_SEED + ": one dispatch stream"),
        iree=_says("none-promised", source=_IREE),
        vulkan=_says("in-order", source=_VULKAN + ": signal operations happen in submission order"),
    ),
    _point(
        "head-of-line",
        "May a submission that waits for running work delay an independent one behind it on its queue?",
        {"never": "no", "may": "it may"},
        strict="never",
        seed=_says("may", "never", source=_SEED + ": one dispatch stream"),
        iree=_says("never", source=_IREE),
        vulkan=_says("may", "never", source=_VULKAN),
    ),
    _point(
        "recall",
        "May a submission that the device has been given behind running work run when the host fails their semaphore?",
        {
            "never": "it is taken back",
            "may": "it may, as a device cannot give work back; its signals fail all the same",
        },
        strict="may",
    ),
    _point(
        "use-outside-life",
        "What does work do that uses a queue-allocated buffer before its allocation or after its deallocation?",
        {
            "FAILED_PRECONDITION": "its signals fail with FAILED_PRECONDITION",
            "refused": "the submission is refused",
            "fails": "its signals fail with another code",
        },
        strict="FAILED_PRECONDITION",
        seed=_undefined("seed"),
        iree=_says(
            "refused",
            "FAILED_PRECONDITION",
            "fails",
            source=_IREE_CTS + "/queue/queue_alloca_test.cc, DeallocaReleasesMemory",
        ),
        vulkan=_undefined("vulkan"),
    ),
    _point(
        "odd-dealloca",
        "What does a second dealloca of a buffer, or one of a plain buffer, do?",
        {"INVALID_ARGUMENT": "it is refused with INVALID_ARGUMENT", "barrier": "it only waits and signals"},
        strict="INVALID_ARGUMENT",
        iree=_says("barrier", source="IREE 1b8e95c3a7: not an asynchronous buffer, so a barrier"),
    ),
    _point(
        "transfer-granularity",
        "In which units do fills and copies work?",
        {"1": "single bytes", "pattern": "the size of the pattern", "4": "four bytes"},
        strict="1",
        seed=_says("pattern", source=_SEED + ": memset nodes of 1, 2 and 4 bytes"),
        iree=_says("pattern", source=_IREE),
        vulkan=_says("4", source=_VULKAN + ": vkCmdFillBuffer"),
    ),
    _point(
        "out-of-range-transfer",
        "What does a transfer outside its buffer do?",
        {"refused": "it is refused when recorded or submitted", "fails": "its signals fail"},
        strict="refused",
        iree=_says("refused", "fails", source=_IREE),
        vulkan=_undefined("vulkan"),
    ),
    _point(
        "host-call-may-submit",
        "May a host call submit further work?",
        {"yes": "yes", "no": "no"},
        strict="yes",
        iree=_says("no", source="IREE 3.13, hal/queue.h: a host call must not call queue operations"),
    ),
    _point(
        "close-with-pending",
        "What becomes of unfinished work when the device closes?",
        {"cancelled": "it fails with CANCELLED or ABORTED"},
        strict="cancelled",
        seed=_undefined("seed"),
        iree=_undefined("iree"),
        vulkan=_undefined("vulkan"),
    ),
    _point(
        "drop-order",
        "In which order may handles be dropped?",
        {"any": "in any order", "device-last": "everything else before the device"},
        strict="any",
        seed=_says("device-last", source=_SEED),
        iree=_says("device-last", source="IREE 3.13, as observed: semaphores and buffers need it"),
        vulkan=_says("device-last", source=_VULKAN),
    ),
)

VARIATION_POINTS: Mapping[str, VariationPoint] = {point.id: point for point in _POINTS}


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of answers to every variation point."""

    name: str
    summary: str
    #: Whether a semaphore can fail at all (Vulkan's cannot).
    failure_state: bool = True

    def answer(self, point: str) -> Answer:
        """Return the answer to a behaviour; :class:`KeyError` for an unknown id or a limit's id."""
        answer = VARIATION_POINTS[point].answers[self.name]
        if not isinstance(answer, Answer):
            raise KeyError(f"variation point '{point}' is a limit; use Profile.limit")
        return answer

    def usual(self, point: str) -> str | None:
        """Return the usual permitted answer, ``None`` where the profile leaves it undefined."""
        permitted = self.answer(point).permitted
        return permitted[0] if permitted else None

    def limit(self, point: str) -> int | None:
        """Return a limit, ``None`` for none; :class:`KeyError` for an unknown id or a behaviour's id."""
        answer = VARIATION_POINTS[point].answers[self.name]
        if not isinstance(answer, Limit):
            raise KeyError(f"variation point '{point}' is not a limit; use Profile.answer")
        return answer.value

    @property
    def value_max(self) -> int:
        """The largest legal timeline value."""
        value = self.limit("value-max")
        assert value is not None
        return value


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("strict", "what this project promises: nothing undefined"),
        Profile("seed", "the change to IREE's CUDA driver from which this project grew (2023)"),
        Profile("iree", "IREE's HAL as its headers and CTS of 2026 say"),
        Profile("vulkan", "Vulkan timeline semaphores", failure_state=False),
    )
}
