"""Every clause of the contract, in order.

Ids are for good: a clause may be reworded or split, but what stays keeps its id, because cases, baselines and reports
refer to it. An id that ends in ``q`` is the quality half of the clause before it.
"""

from __future__ import annotations

from ..hal import Capability
from .model import Clause

_HOST_FAIL = (Capability.HOST_FAIL,)
_ASYNC_ALLOC = (Capability.ASYNC_ALLOC,)
_HOST_CALL = (Capability.HOST_CALL,)

# One clause is one block of two or three lines, so that the list reads as a text and not as a column of arguments.
# fmt: off

TIMELINE = (
    Clause("TL-1", "A new semaphore reads as its initial value. Both 0 and value-max are legal initial values.",
           variations=("value-max",)),
    Clause("TL-2", "A signal(v) with v above the value sets the value to exactly v when nobody else signals. Any jump "
           "up to max-difference is legal.",
           variations=("max-difference",)),
    Clause("TL-3", "A signal(v) with v at or below the value changes nothing: not the value, not a waiter, not the "
           "semaphore's health. How the caller hears of it is left open.",
           variations=("non-advancing-signal",)),
    Clause("TL-4", "Observed values never decrease, under any number of threads and queues. No value is observed that "
           "nobody signaled."),
    Clause("TL-5", "Concurrent query, signal, wait and fail on one semaphore are linearizable: every history of up to "
           "4 threads with 6 operations each, a timed-out call counting as unknown, has an order that the "
           "one-semaphore model explains.",
           variations=("non-advancing-signal", "failed-wait-code", "signal-after-failure")),
    Clause("TL-6", "Non-integers, negative values, values of 2^64 and above, and NaN timeouts are refused by the "
           "interface and change nothing. Zero and negative timeouts mean expired, None and inf mean for ever. What a "
           "value above value-max does is left open.",
           variations=("value-max", "value-out-of-range")),
)

WAITS = (
    Clause("W-1", "A wait(v) returns only once the value is at least v."),
    Clause("W-2", "After wait(v) has returned, query() in that thread gives at least v, and all device work ordered "
           "before that signal is visible to the host."),
    Clause("W-3", "A value already reached satisfies a wait with any timeout, an expired one included."),
    Clause("W-4", "A wait for an unreached value with an expired timeout gives DEADLINE_EXCEEDED without blocking."),
    Clause("W-5", "If the value stays unreached, also because its producer is held, a finite timeout ends in "
           "DEADLINE_EXCEEDED and, up to the resolution of the host's monotonic clock, not before it has passed. The "
           "semaphore and later waits are unaffected."),
    Clause("W-6", "Signals of smaller values, at whatever moment, never satisfy or end a wait."),
    Clause("W-7", "One value may be waited for any number of times, before and after it is reached, by any number of "
           "threads."),
    Clause("W-8", "One signal satisfies every wait at or below its value, and no other."),
    Clause("W-9", "No wake-up is lost, whatever the race between a signal and the start or the deadline of a wait."),
    Clause("W-10", "A blocked wait blocks no other thread's signal, query or submission."),
    Clause("W-10q", "A blocked wait uses less than 20% of a core over 0.5 s.",
           quality=True),
    Clause("W-11", "Nothing but its value, its deadline or a failure ends a wait: not the end of another wait, and not "
           "a POSIX signal whose handler returns."),
    Clause("W-11q", "An exception from a Python signal handler (Ctrl-C) propagates out of a blocked wait within 0.5 s "
           "and leaves the semaphore intact.",
           quality=True),
    Clause("W-12", "A wait-all returns when all of its timepoints are reached, a wait-any when at least one is. "
           "Duplicates and any length are legal, and an empty list is satisfied at once."),
    Clause("W-13", "A wait-any that is already satisfied never blocks, wherever in the list the satisfied timepoint "
           "stands.",
           requires=(Capability.WAIT_ANY,)),
)

FAILURES = (
    Clause("F-1", "A fail(status) makes the semaphore failed for good, and query() raises that status, code and "
           "message. The first failure wins.",
           requires=_HOST_FAIL),
    Clause("F-2", "A wait begun after the failure, and a blocked wait whose value was not reached before it, ends with "
           "a failure. A blocked wait whose value was reached just before the failure may end either way.",
           requires=_HOST_FAIL, variations=("failed-wait-code",)),
    Clause("F-3", "A failed member ends a wait-all and a wait-any. Whether the failure outweighs a reached or an "
           "unreached member is left open.",
           requires=_HOST_FAIL,
           variations=("failed-wait-code", "any-satisfied-and-failed", "all-unreached-and-failed")),
    Clause("F-4", "Every status code and message with which a semaphore is failed comes back unchanged.",
           requires=(Capability.HOST_FAIL, Capability.FAIL_CODE)),
    Clause("F-5", "Signaling a failed semaphore does not revive it. What the call raises is left open.",
           requires=_HOST_FAIL, variations=("signal-after-failure",)),
    Clause("F-6", "A submission whose wait list holds a semaphore failed before or after the submit never runs, and "
           "fails each of its signal semaphores with the cause, through any number of hops, fan-outs and joins. With "
           "several failed waits the cause is one of theirs.",
           requires=_HOST_FAIL, variations=("failure-promptness", "failed-at-submit", "recall")),
    Clause("F-7", "Work that fails to launch or to run fails every signal semaphore of its submission with its "
           "status.",
           requires=(Capability.FAULT_INJECTION,)),
    Clause("F-8", "Failure spreads along dependencies only: an unrelated submission, pending or new, is unaffected. "
           "Device loss is the one exception.",
           requires=_HOST_FAIL),
    Clause("F-9", "Propagation of a failure through a chain of any length needs bounded stack.",
           requires=_HOST_FAIL),
    Clause("F-10", "Device loss fails everything that is pending or in flight, and everything submitted later, and "
           "hangs nothing.",
           requires=(Capability.DEVICE_LOSS_INJECTION,)),
    Clause("F-11", "A signal semaphore that has already failed changes nothing for the work of a submission and its "
           "other signals.",
           requires=_HOST_FAIL),
    Clause("F-12", "Failing a semaphore with the status OK is refused.",
           requires=_HOST_FAIL),
    Clause("F-13", "A failing submission fails its signal semaphores also where the value has been passed.",
           requires=_HOST_FAIL),
)

SUBMISSIONS = (
    Clause("Q-1", "Nothing of a submission runs before its whole wait list is reached: no byte is read or written."),
    Clause("Q-2", "A signal is made only after all of the submission's work is done and visible to host and device "
           "waiters."),
    Clause("Q-3", "Submitting does not block on the wait list, and wait-before-signal is legal from the same thread.",
           requires=(Capability.ASYNC_SUBMIT,)),
    Clause("Q-4", "Empty command lists, wait lists and signal lists are legal, in every combination. A submission with "
           "no signals still completes and lets go of its resources."),
    Clause("Q-5", "Device to device: a later submission waits for what a former one signals. On a queue that can "
           "overtake, or on two queues, this also holds when the consumer is submitted first."),
    Clause("Q-6", "Several later submissions may wait for the same signal of a former one."),
    Clause("Q-7", "A former submission may signal a value above all of the different values that later ones wait for."),
    Clause("Q-8", "Host and device to device: a submission waiting for a host signal and a device signal runs only "
           "after both, in whichever order they are made."),
    Clause("Q-9", "Device to host and device: one signal releases both host waiters and later submissions."),
    Clause("Q-10", "A larger value satisfies a submission's wait for a smaller one, whether it was signaled before or "
           "after the wait was enqueued."),
    Clause("Q-11", "Work waiting for a device signal D and a host signal H sees D's data whatever else is signaled, "
           "submitted or completed between, in every order and also while D is held and H is signaled."),
    Clause("Q-12", "A consumer of s@1 completes while a later producer of s@2 is held on another queue.",
           requires=(Capability.HOLD, Capability.MULTI_QUEUE)),
    Clause("Q-13", "Every signal timepoint of an accepted submission ends reached or failed, whatever happened to its "
           "siblings, and none is made twice. What a signal does that is not above the value when it is made is left "
           "open.",
           variations=("overtaken-signal",)),
    Clause("Q-14", "A submission whose waits are reached runs and completes without any further call, also as the only "
           "one on the device. One that waits for a host signal, or for a producer that has not started, holds back no "
           "independent one; behind a wait for running work this is left open.",
           variations=("head-of-line",)),
    Clause("Q-15", "Lists, values, command lists and update bytes are captured by the call, and resources live until "
           "completion. The caller may drop or change everything at once."),
    Clause("Q-16", "A semaphore may occur several times in a wait list, where every value must be reached, and in both "
           "lists of one submission (wait s@1, signal s@2). What duplicates in a signal list do is left open.",
           variations=("duplicate-signal",)),
    Clause("Q-17", "Wait lists and signal lists of 1, 33, 200 and 1,000 timepoints work."),
    Clause("Q-17q", "A limit on the length of a list, if there is one above 32, shows as a clean RESOURCE_EXHAUSTED "
           "without effect.",
           quality=True),
    Clause("Q-18", "Chains of 20,000 submissions, fan-out and fan-in of 1,000, and reverse-order chains complete."),
    Clause("Q-18q", "The time that a chain or a fan takes grows gently: time(8n)/time(n) is below 16, best of five.",
           quality=True),
    Clause("Q-19", "Any thread may submit, signal, wait and fail, also one that never touched the device before, and "
           "many at once."),
    Clause("Q-20", "Order between several queues comes from semaphores only, in both directions, also in rings.",
           requires=(Capability.MULTI_QUEUE,)),
    Clause("Q-21", "A flush may be called at any time and changes no result.",
           requires=(Capability.FLUSH,)),
    Clause("Q-22", "A refused submission has no effect at all."),
    Clause("Q-23", "A consumer that waits only for the last of twelve increasing signals sees the data of all twelve "
           "producers. The producers are ordered by submission where that is promised, and chained explicitly "
           "elsewhere.",
           variations=("submission-order",)),
    Clause("Q-24", "One thread may queue 5,000 non-empty submissions behind a held one and then release it: nothing "
           "deadlocks.",
           requires=(Capability.HOLD, Capability.ASYNC_SUBMIT)),
)

COMMANDS = (
    Clause("C-1", "The same command buffer runs 200 times, and several times in flight.",
           requires=(Capability.REUSABLE_COMMANDS,)),
    Clause("C-2", "A command buffer may be recorded before its buffers are allocated by the queue.",
           requires=_ASYNC_ALLOC),
    Clause("C-3", "All of 512 commands in one submission precede its signal."),
    Clause("C-4", "Commands of one submission act as if in list order."),
)

ALLOCATION = (
    Clause("A-1", "An alloca behind an unreached wait returns at once with a buffer of at least the size. The buffer "
           "may be used after the alloca's signal.",
           requires=_ASYNC_ALLOC),
    Clause("A-2", "A dealloca takes effect after its wait list: rounds of alloca and dealloca whose sizes sum to four "
           "times the memory succeed, also all queued behind one unreached wait.",
           requires=(Capability.ASYNC_ALLOC, Capability.BOUNDED_MEMORY)),
    Clause("A-3", "Alloca, fill, copy and dealloca chained by semaphores alone give the right data.",
           requires=_ASYNC_ALLOC),
    Clause("A-4", "A failed wait leaves a dealloca undone, and the buffer stays usable.",
           requires=_ASYNC_ALLOC, variations=("recall",)),
    Clause("A-5", "A size that no device could serve is refused at once or fails the signals, and one unservable at "
           "that moment fails them. The code is RESOURCE_EXHAUSTED each time, and nothing else is affected.",
           requires=_ASYNC_ALLOC),
    Clause("A-6", "Use of a queue-allocated buffer before its allocation or after its deallocation does what the "
           "backend's profile permits.",
           requires=_ASYNC_ALLOC, variations=("use-outside-life",)),
    Clause("A-7", "A second dealloca of a buffer, or one of a plain buffer, does what the backend's profile permits.",
           requires=_ASYNC_ALLOC, variations=("odd-dealloca",)),
)

TRANSFERS = (
    Clause("T-1", "Fills with patterns of 1, 2 and 4 bytes, copies and updates write exactly the named range, in units "
           "of the transfer granularity, and leave its neighbours alone. A length of 0 does nothing or is refused.",
           variations=("transfer-granularity",)),
    Clause("T-2", "A transfer whose range lies outside a buffer does what the backend's profile permits.",
           variations=("out-of-range-transfer",)),
    Clause("T-3", "Chained transfers, write-after-read included, give what the sequential program gives, for any legal "
           "program. The data of 64 x 64 independent copies in flight is right."),
)

HOST_CALLS = (
    Clause("H-1", "A host call is made once, after the wait list and before the signals. It is not made at all if a "
           "wait failed.",
           requires=_HOST_CALL),
    Clause("H-2", "An exception in a host call fails every signal with its status. A host call may query and signal, "
           "and work that this releases proceeds; whether it may submit is left open.",
           requires=_HOST_CALL, variations=("host-call-may-submit",)),
    Clause("H-3", "A long host call holds back nothing that does not depend on it.",
           requires=_HOST_CALL),
)

LIFETIME = (
    Clause("L-1", "After every case, and after 100 rounds of opening and closing, live events, timepoints, buffers, "
           "actions and threads are back where they were.",
           requires=(Capability.STATISTICS,)),
    Clause("L-1q", "Where a HAL counts nothing itself, the threads, descriptors and memory of the process are back "
           "where they were after every case, and after 100 rounds of opening and closing.",
           quality=True),
    Clause("L-2", "Closing a device with pending or held work neither hangs nor crashes. What had not finished fails "
           "with CANCELLED or ABORTED, and latches open.",
           variations=("close-with-pending",)),
    Clause("L-3", "Handles may be dropped at any moment, by the garbage collector on any thread, and in every order "
           "that the backend's profile permits.",
           variations=("drop-order",)),
    Clause("L-4", "Reusing a pooled event never lets an old signal satisfy a new wait."),
)

DECLARATIONS = (
    Clause("D-1", "A device has the capabilities that it declares, as the HAL's own or as emulated by its adapter: "
           "what is said of each happens when it is tried."),
    Clause("D-2", "A device declares the capabilities that work when they are tried: as the HAL's own, or as emulated "
           "where its adapter does the work."),
    Clause("D-3", "Each queue that a device counts takes work, does it and signals."),
)

# fmt: on

#: All of them, in the order of the contract.
EVERY_CLAUSE: tuple[Clause, ...] = (
    *TIMELINE,
    *WAITS,
    *FAILURES,
    *SUBMISSIONS,
    *COMMANDS,
    *ALLOCATION,
    *TRANSFERS,
    *HOST_CALLS,
    *LIFETIME,
    *DECLARATIONS,
)
