"""What a journal tells of a case: its submissions, where its semaphores were last seen, the calls in progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..waitgraph import State
from .following import Submission, Waiter
from .journal import JournalContent
from .log import MADE_UP

Entry = Mapping[str, Any]

_CALLS = {
    "host_function": "a host function",
    "settle": "settling",
}


class SeenPoint(NamedTuple):
    """A timepoint in a journal; serial numbers count within a device."""

    device: int
    serial: int
    value: int


class History:
    """The entries of a journal, put together. Claims only what was seen: the values that host threads set or saw."""

    def __init__(self, content: JournalContent) -> None:
        self._content = content
        self._begun: dict[int, Entry] = {}
        self._ended: dict[int, Entry] = {}
        self._names: dict[tuple[int, int], str] = {}
        self._values: dict[tuple[int, int], int] = {}
        self._failures: dict[tuple[int, int], str] = {}
        self._opened: set[tuple[int, int]] = set()
        #: Per semaphore, whoever may have signaled it: the value, and the number of the call.
        self._signals: dict[tuple[int, int], list[tuple[int, int]]] = {}
        #: Whether every submission and signal of the case is known.
        self.complete = not content.lost
        for entry in content.entries:
            if "e" in entry:
                self._ended[entry["e"]] = entry
            elif "i" in entry:
                self._begun[entry["i"]] = entry
                if "x" in entry:
                    self._ended[entry["i"]] = entry
            elif entry.get("o") == "names":
                self._names.update({(entry["d"], serial): name for serial, name in entry["n"]})
        for (device, serial), value in content.values.items():
            self._saw(device, serial, value)
        self._in_progress = self._calls_in_progress()
        self._numbers = self._submission_numbers()
        devices = {entry.get("d") for entry in self._begun.values()}
        self._many_devices = len(devices) > 1
        for call, entry in self._begun.items():
            self._note(call, entry, self._ended.get(call, {}), in_progress=call in self._in_progress)

    def _calls_in_progress(self) -> list[int]:
        """Return the calls that threads were in, and those around them, in the order in which they began.

        Those without an entry get one here, under a negative number.
        """
        found = {call for call, entry in self._begun.items() if "u" in entry and call not in self._ended}
        for thread in self._content.threads:
            call = thread.call
            while call in self._begun:
                found.add(call)
                call = self._begun[call].get("p", 0)
        briefs = [thread.brief for thread in self._content.threads if thread.brief is not None]
        for number, brief in enumerate(briefs, 1):
            self._begun[-number] = brief
            found.add(-number)
        return sorted(found, key=self._began)

    def _began(self, call: int) -> tuple[bool, float, int]:
        """Return by what calls are ordered: queries, of which the time is not known, come last."""
        moment = self._begun[call]["t"]
        return moment is None, moment or 0.0, call

    def _submission_numbers(self) -> dict[int, int]:
        """Return the numbers of the accepted submissions, in the order in which they began."""
        numbers: dict[int, int] = {}
        last: dict[int, int] = {}
        for call, entry in sorted(self._begun.items()):
            if entry["o"] == "submit" and call not in self._in_progress and "x" not in self._ended.get(call, {}):
                device = entry["d"]
                numbers[call] = last[device] = max(last.get(device, 0), entry["k"]) + 1
        return numbers

    def _note(self, call: int, entry: Entry, end: Entry, *, in_progress: bool) -> None:
        """Learn from a call and from its end, if that said anything."""
        device, serial = entry["d"], entry.get("s")
        refused = "x" in end
        done = not refused and not in_progress
        made = entry if "name" in entry else end
        if made.get("name"):
            self._names[device, made["s"]] = made["name"]
        match entry.get("o"):
            case "create_semaphore" if "s" in made:
                self._saw(device, made["s"], entry["v"])
            case "signal" if done and isinstance(serial, int):
                self._saw(device, serial, entry["v"])
            case "signal" if not refused and isinstance(serial, int):
                self._signals.setdefault((device, serial), []).append((entry["v"], 0))
            case "fail" if done and isinstance(serial, int):
                self._failures.setdefault((device, serial), entry["err"])
            case "open" if isinstance(serial, int):
                self._opened.add((device, serial))
            case "wait" if done and (entry["m"] == "all" or len(entry["w"]) == 1):
                for semaphore, value in entry["w"]:
                    self._saw(device, semaphore, value)
            case "submit" if not refused:
                self.complete = self.complete and "sn" not in entry
                for semaphore, value in entry["s"]:
                    self._signals.setdefault((device, semaphore), []).append((value, call))

    def _saw(self, device: int, serial: int, value: int) -> None:
        self._values[device, serial] = max(value, self._values.get((device, serial), 0))

    # --- facts for the graph

    def timepoint(self, point: SeenPoint) -> tuple[str, str, State, str]:
        """Return key, label, state and standing of a timepoint."""
        semaphore = (point.device, point.serial)
        name = self._name(*semaphore)
        prefix = f"{point.device}." if point.device > 1 else ""
        value = self._values.get(semaphore)
        if semaphore in self._failures:
            state, standing = State.FAILED, f"{name} failed with {self._failures[semaphore]}"
        elif value is None:
            state, standing = State.UNKNOWN, "never seen"
        else:
            may_have_come = any(v >= point.value for v, _ in self._signals.get(semaphore, ()))
            state = State.UNKNOWN if may_have_come or not self.complete else State.UNREACHED
            state, standing = (State.REACHED if value >= point.value else state), f"last seen at {value}"
        return f"{prefix}{point.serial}@{point.value}", f"{name}@{point.value}", state, standing

    def producer(self, point: SeenPoint) -> Submission | None:
        """Return the first submission that is to signal the timepoint."""
        signals = self._signals.get((point.device, point.serial), ())
        calls = [call for value, call in signals if call and value >= point.value]
        return self._submission(min(calls)) if calls else None

    def _submission(self, call: int) -> Submission:
        entry, number = self._begun[call], self._numbers.get(call)
        device = entry["d"]
        prefix = f"device {device}'s " if device > 1 else ""
        latches = [
            self._name(device, serial, "latch")
            for serial in entry.get("h", ())
            if self.complete and (device, serial) not in self._opened
        ]
        return Submission(
            f"submission {device}.{call}" if number is None else f"submission {_on(device)}{number}",
            f"a submission of {entry['T']}" if number is None else f"{prefix}submission #{number}",
            self._named(device, entry["a"]),
            str(entry["q"]),
            self._points(entry),
            self._since(entry),
            in_progress=number is None,
            latches=latches,
            more=max(0, entry.get("wn", 0) - len(entry["w"])),
        )

    def waiters(self) -> list[Waiter]:
        """Return the threads whose calls have not returned, the longest first."""
        found = []
        for call in self._in_progress:
            entry = self._begun[call]
            is_wait, is_submission = entry["o"] == "wait", entry["o"] == "submit"
            found.append(
                Waiter(
                    entry["T"],
                    State.IN_PROGRESS,
                    self._call_text(entry),
                    self._since(entry),
                    self._points(entry) if is_wait else (),
                    self._submission(call) if is_submission else None,
                    max(0, entry.get("wn", 0) - len(entry["w"])) if is_wait else 0,
                )
            )
        return found + [
            Waiter(thread.name, State.IN_PROGRESS, "a call of which nothing is known", None)
            for thread in self._content.threads
            if thread.call > self._content.begun_at and thread.call not in self._begun
        ]

    # --- words

    def last_operations(self, count: int) -> list[str]:
        """Return a line for each of the last calls, oldest first, with what became of it.

        Queries, and waits for one timepoint that came, are left out: they changed nothing.
        """
        calls = sorted(self._begun, key=self._began)[-count:] if count > 0 else []
        lines = []
        for call in calls:
            entry, end = self._begun[call], self._ended.get(call, {})
            text = self._call_text(entry)
            if entry["o"] == "submit":
                number = f"  (submission #{self._numbers[call]})" if call in self._numbers else ""
                text += f" signal [{self._list(entry, 's')}] queue {entry['q']}{number}"
            if call in self._in_progress:
                text += "  has not returned"
            elif "x" in end:
                text += f"  raised {end['x']}"
            lines.append(f"{entry['T']}: {text}")
        return lines

    def _call_text(self, entry: Entry) -> str:
        operation, device = entry["o"], entry["d"]
        match operation:
            case "submit":
                call, what = entry["c"], self._named(device, entry["a"])
                shown = {"queue_execute": f"queue_execute({what})", "queue_host_call": "queue_host_call"}
                text = shown.get(call, f"queue_{what}")
                return f"{text} wait [{self._list(entry, 'w')}]" if entry["w"] else text
            case "wait":
                listed = self._list(entry, "w")
                return f"wait({'any of ' if entry['m'] == 'any' else ''}{listed})"
            case "signal":
                return f"signal({self._name(device, entry['s'])}@{entry['v']})"
            case "query":
                return f"query({self._name(device, entry['s'])})"
            case "fail":
                return f"fail({self._name(device, entry['s'])})"
            case "open":
                return f"open({self._name(device, entry['s'], 'latch')})"
            case "read" | "write":
                return f"{operation}({self._name(device, entry['s'], 'buffer')})"
            case "create_semaphore":
                return f"create_semaphore({entry['v']})"
            case "allocate_buffer":
                return f"allocate_buffer({entry['a']})"
            case "flush":
                return f"queue_flush({entry['q']})"
        return _CALLS.get(operation, f"{operation}()")

    def _list(self, entry: Entry, key: str) -> str:
        names = [f"{self._name(entry.get('d', 0), serial)}@{value}" for serial, value in entry[key][:6]]
        count = entry.get(f"{key}n", len(entry[key]))
        return ", ".join(names) + (f", … {count - 6} more" if count > 6 else "")

    def _points(self, entry: Entry) -> list[SeenPoint]:
        return [SeenPoint(entry["d"], serial, value) for serial, value in entry["w"]]

    def _since(self, entry: Entry) -> float | None:
        return None if entry["t"] is None else float(max(0.0, self._content.read_at - entry["t"] / 1000))

    def _name(self, device: int, serial: int, kind: str = "semaphore") -> str:
        made_up = f"{kind}#{serial}" + (f" of device {device}" if self._many_devices else "")
        return self._names.get((device, serial), made_up)

    def _named(self, device: int, text: str) -> str:
        return MADE_UP.sub(lambda found: self._names.get((device, int(found[1])), found[0]), text)


def _on(device: int) -> str:
    return f"{device}." if device > 1 else ""
