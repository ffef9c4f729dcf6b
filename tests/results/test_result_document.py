"""What a result file says, and how it is written."""

from __future__ import annotations

import datetime
import json
import os
import stat
import threading

import jsonschema
import pytest

from pytest_cuda2hal import __version__
from pytest_cuda2hal.contract import CONTRACT_VERSION
from pytest_cuda2hal.outcome import Outcome
from pytest_cuda2hal.report import ResultError, RunFacts, read_result, result_document, write_report, write_result
from pytest_cuda2hal.schema import schema_text

CHECK = jsonschema.Draft202012Validator(json.loads(schema_text())).validate


def test_the_document_of_a_run_with_no_case(document, probe):
    result = document()
    CHECK(result)
    date = datetime.datetime.fromisoformat(result["date"])
    assert date.utcoffset() == datetime.timedelta(0)
    assert abs(datetime.datetime.now(datetime.UTC) - date) < datetime.timedelta(minutes=5)
    assert (result["format"], result["suite"], result["contract"]) == (2, __version__, CONTRACT_VERSION)
    assert (result["effort"], result["profile"], result["order"], result["isolated"]) == (
        "quick",
        None,
        "definition",
        [],
    )
    assert (result["shard"], result["exitcode"], result["baseline"], result["cases"]) == (None, 0, None, [])
    assert result["backends"][0]["spec"] == "reference"
    assert result["machine"]["pytest"] == pytest.__version__
    assert result["counts"] == {"reference": {outcome.value: 0 for outcome in Outcome}}
    assert result["answers"] == {"reference": {"seen": {}, "nearest": None}}


def test_every_fact_of_the_run_is_in_it(document):
    shard = {"index": 2, "count": 4, "selected": 10, "cases": ["a", "b"], "digest": "0" * 64}
    entry = {"case": "a/*", "backend": "*", "outcome": "fail", "reason": "why", "applies": True, "matched": ["a/b::c"]}
    facts = {
        "effort": "soak",
        "exitcode": None,
        "profile": "iree",
        "order": "random:17",
        "isolated": ["reference"],
        "shard": shard,
        "baseline": {"file": "known.toml", "problems": ["entry 1 expired"], "entries": [entry]},
    }
    result = document(**facts)
    CHECK(result)
    assert {name: result[name] for name in facts} == facts


def test_a_case_is_written_in_full_and_in_a_fixed_order(document, verdict):
    details = {
        "expected": "1",
        "seen": "2",
        "operations": ["signal(1)"],
        "waits": {"t": ["s"]},
        "further": [1, None, 2.5],
    }
    facts = {
        "clauses": ["W-1", "F-2"],
        "seconds": 0.25,
        "message": "it broke",
        "evidence": "line\n  line",
        "quality": [{"clause": "W-10q", "kept": False, "figure": "3 ms"}],
        "variations": {"drop-order": "any"},
        "details": details,
        "known": "a reason",
        "judgement": "known: a reason",
    }
    result = document(verdict("a/b::c[1]", "reference", Outcome.DEVICE_LOST, **facts))
    CHECK(result)
    (case,) = result["cases"]
    assert case == {"case": "a/b::c[1]", "backend": "reference", "outcome": "device lost", **facts}
    assert list(case) == json.loads(schema_text())["$defs"]["case"]["required"]
    assert list(result) == json.loads(schema_text())["required"]


def test_cases_are_sorted_and_counted_by_backend(document, verdict, probe):
    result = document(
        verdict("b", "y", Outcome.FAIL),
        verdict("a", "y", Outcome.VARIATION),
        verdict("c", "x", Outcome.SET_ASIDE),
        verdict("c", "y", Outcome.FAIL),
        probes=(probe("y"), probe("x")),
    )
    assert [(case["backend"], case["case"]) for case in result["cases"]] == [
        ("x", "c"),
        ("y", "a"),
        ("y", "b"),
        ("y", "c"),
    ]
    assert {name: number for name, number in result["counts"]["y"].items() if number} == {"fail": 2, "variation": 1}
    assert {name: number for name, number in result["counts"]["x"].items() if number} == {"set aside": 1}
    assert list(result["counts"]) == ["y", "x"]


def test_the_answers_of_each_backend(document, verdict, probe):
    result = document(
        verdict("a", "x", variations={"overtaken-signal": "fails", "drop-order": "device-last"}),
        verdict("a", "y", variations={"overtaken-signal": "no-op"}),
        probes=(probe("x"), probe("y", profile="seed")),
    )
    assert result["answers"]["x"] == {
        "seen": {"drop-order": ["device-last"], "overtaken-signal": ["fails"]},
        "nearest": {"profile": "iree", "agree": 2, "of": 2},
    }
    assert result["answers"]["y"]["nearest"] == {"profile": "seed", "agree": 1, "of": 1}


NASTY = {
    "half of a pair": "\udc80 and \ud800",
    "controls": "\0\x1b[31m\r\n\t\x7f\u2028",
    "quotes": "\"'`\\|</script>",
    "\udcff": "a name that is no text",
    "not a number": float("nan"),
    "infinite": [float("inf"), -float("inf")],
    "large": 2**64 - 2,
    "bytes": b"\xff\x00",
    "a set": {3, 1, 2},
    "a tuple": (1, (2,)),
    "an outcome": Outcome.HANG,
    "an error": ValueError("text"),
    7: "a number as a name",
    None: "nothing as a name",
}


@pytest.mark.parametrize("outcome", Outcome)
def test_texts_and_details_may_hold_anything(tmp_path, document, verdict, outcome):
    text = '\udc80\0\n"|' + "x" * 10_000
    nasty = verdict("a/b::c[\udc80-\\x00]", outcome=outcome, message=text, evidence=text, details=NASTY, known=text)
    result = document(nasty)
    CHECK(result)
    path = tmp_path / "nasty.json"
    write_result(path, result)
    assert read_result(path) == result
    path.read_bytes().decode("utf-8")
    details = result["cases"][0]["details"]
    assert details["half of a pair"] == "\\udc80 and \\ud800"
    assert details["\\udcff"] == "a name that is no text"
    assert details["controls"] == NASTY["controls"]
    assert (details["not a number"], details["infinite"]) == ("nan", ["inf", "-inf"])
    assert (details["large"], details["a set"], details["a tuple"]) == (2**64 - 2, [1, 2, 3], [1, [2]])
    assert (details["7"], details["None"]) == ("a number as a name", "nothing as a name")


def test_details_that_contain_themselves_end_somewhere(document, verdict):
    waits: dict[str, object] = {}
    waits["semaphore"] = [waits]
    CHECK(document(verdict(details={"waits": waits})))


def test_the_documents_parts_are_copies(verdict, probe):
    details = {"operations": ["a"]}
    result = result_document(RunFacts(effort="full", exitcode=0), [probe()], [verdict(details=details)])
    details["operations"].append("b")
    assert result["cases"][0]["details"] == {"operations": ["a"]}


# --- writing


def test_folders_are_made_and_the_file_ends_with_a_line(tmp_path, probe, verdict):
    path = tmp_path / "deep" / "er" / "result.json"
    write_report(str(path), RunFacts(effort="quick", exitcode=1), [probe()], [verdict(message="grün")])
    assert path.read_text(encoding="utf-8").endswith("}\n")
    assert "grün" in path.read_text(encoding="utf-8")
    assert read_result(path)["exitcode"] == 1


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_result(path, {"format": 2, "old": True})
    before = path.read_text(encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", _raise_disk_full)
        with pytest.raises(OSError, match="disk full"):
            write_result(path, {"format": 2, "old": False})
    assert path.read_text(encoding="utf-8") == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]
    with pytest.raises(ValueError, match="Out of range float"):
        write_result(path, {"x": float("nan")})
    assert path.read_text(encoding="utf-8") == before


def _raise_disk_full(*_):
    raise OSError("disk full")


def test_nobody_sees_half_a_file(tmp_path):
    path = tmp_path / "result.json"
    write_result(path, {"rows": ["x" * 100] * 2_000})
    done = threading.Event()
    seen = []

    def read() -> None:
        while not done.is_set():
            seen.append(len(json.loads(path.read_text(encoding="utf-8"))["rows"]))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        write_result(path, {"rows": ["x" * 100] * 2_000})
    done.set()
    reader.join()
    assert set(seen) == {2_000}


@pytest.mark.skipif(os.name != "posix", reason="POSIX links, permissions and pipes")
def test_links_permissions_and_pipes_stay_what_they_are(tmp_path):
    path, link, pipe = tmp_path / "result.json", tmp_path / "link.json", tmp_path / "pipe"
    link.symlink_to(path)
    write_result(link, {"a": 1})
    assert link.is_symlink()
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1}
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask

    os.mkfifo(pipe)
    texts = []
    reader = threading.Thread(target=lambda: texts.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    write_result(pipe, {"a": 1})
    reader.join()
    assert json.loads(texts[0]) == {"a": 1}
    assert stat.S_ISFIFO(pipe.stat().st_mode)


# --- reading


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"format": NaN}', "is not JSON: NaN is not a number"),
        ("[]", "is not a result file: make one with --hal-report"),
        ("{}", "is not a result file: make one with --hal-report"),
        ('{"format": 3}', "has format 3; this version reads formats 1 and 2 only"),
        ('{"format": "2"}', "has format '2'; this version reads formats 1 and 2 only"),
        ('{"format": true}', "has format True; this version reads formats 1 and 2 only"),
        ('{"format": 2}', "is not a whole result file of format 2: suite is missing"),
        ('{"format": 1}', "is not a whole result file of format 1: 'backends' is missing"),
        (
            '{"format": 1, "backends": [3], "counts": {}}',
            "is not a whole result file of format 1: a value has the wrong type",
        ),
    ],
)
def test_what_is_no_result_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "some.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ResultError) as refused:
        read_result(path)
    assert str(refused.value).startswith(f"{path} {message}")
    assert "\n" not in str(refused.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "some.json"
    path.write_bytes(b'{"format": "\xff"}')
    with pytest.raises(ResultError, match="is not JSON"):
        read_result(path)
