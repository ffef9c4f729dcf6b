"""The documentation names everything there is, and what it shows works."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_cuda2hal import hal
from pytest_cuda2hal.contract import CLAUSES, VARIATION_POINTS, WORDS
from pytest_cuda2hal.hal import Capability
from pytest_cuda2hal.identity import suite_folder

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*DOCS.glob("*.md"), ROOT / "README.md"]
}
RUNNABLE = [
    (name, index, code)
    for name, text in sorted(PAGES.items())
    for index, code in enumerate(re.findall(r"^```python runnable\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
]


@pytest.fixture(scope="module")
def extensions():
    """Let docs/_ext be imported from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "_ext"))
        yield


@pytest.fixture(scope="module")
def generated(extensions):
    """What a build writes into docs/generated, by path."""
    return importlib.import_module("generate").generated()


def test_every_option_of_pytest_is_documented(generated):
    # pytest's own help is the witness: it knows nothing of how the table is made.
    text = subprocess.run(
        [sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    ).stdout
    ours = re.search(r"^HAL conformance.*?\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert ours
    options = set(re.findall(r"^  (--[\w-]+)", ours[1], re.MULTILINE))
    assert {"--backend", "--hal-backend", "--effort"} <= options
    assert [option for option in sorted(options) if f"`{option}" not in generated["options.txt"]] == []
    inis = set(re.findall(r"^  (hal_\w+) \(", text, re.MULTILINE))
    assert "hal_backend" in inis
    assert [ini for ini in sorted(inis) if f"`{ini}`" not in generated["ini.txt"]] == []


def test_every_environment_variable_is_documented(generated):
    variables = {
        name
        for path in (ROOT / "pytest_cuda2hal").rglob("*.py")
        for name in re.findall(r'"(PYTEST_HAL_\w+)"', path.read_text(encoding="utf-8"))
    }
    assert variables
    assert [name for name in sorted(variables) if f"`{name}`" not in generated["environment.txt"]] == []


def test_every_command_is_documented(generated):
    main = (ROOT / "pytest_cuda2hal" / "__main__.py").read_text(encoding="utf-8")
    commands = re.findall(r'add_parser\("(\w+)"', main)
    assert commands
    assert [name for name in commands if f"pytest_cuda2hal {name} --help" not in generated["commands.txt"]] == []


def test_every_clause_variation_point_capability_and_word_has_its_place(generated):
    contract = "\n".join(text for name, text in generated.items() if name.startswith("contract/"))
    for clause in CLAUSES.values():
        assert contract.count(f"(clause-{clause.id.lower()})=\n## {clause.id}\n\n{clause.text}\n") == 1
    for point in VARIATION_POINTS:
        assert contract.count(f"(point-{point})=") == 1
    for capability in Capability:
        assert contract.count(f"(capability-{capability})=") == 1
        assert capability.sentence in contract
    for meaning in WORDS.values():
        assert meaning in contract


def test_the_cases_of_the_pages_are_those_that_pytest_collects(extensions, tmp_path):
    """Reading the source finds the same functions and clauses as importing it does."""
    read = {case.id: set(case.clauses) for case in importlib.import_module("suite_cases").read_cases(suite_folder())}
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "printing.py").write_text(
        "from pytest_cuda2hal.identity import case_id\n"
        "def pytest_collection_finish(session):\n"
        "    for item in session.items:\n"
        "        ids = [id for mark in item.iter_markers('hal_clause') for id in mark.args]\n"
        "        print('CASE', case_id(item).partition('[')[0], *ids)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--pyargs", "pytest_cuda2hal.cts", "--collect-only", "-q"),
            *("-p", "printing", "-p", "no:cacheprovider", "-p", "no:randomly", "--backend=reference"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    collected: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("CASE "):
            _, name, *ids = line.split()
            collected.setdefault(name, set()).update(ids)
    assert collected
    if importlib.util.find_spec("hypothesis"):
        assert read == collected
    else:  # some cases are not collected then
        assert {name: read.get(name) for name in collected} == collected


def test_every_name_of_the_interface_is_in_its_reference():
    text = PAGES["docs/reference.md"]
    names = re.findall(r"^\.\. (?:auto\w+|py:data):: (?:pytest_cuda2hal\.hal\.)?(\w+)$", text, re.MULTILINE)
    assert sorted(names) == sorted(hal.__all__)


def test_every_fixture_is_documented():
    source = (ROOT / "pytest_cuda2hal" / "fixtures.py").read_text(encoding="utf-8")
    fixtures = re.findall(r"@pytest\.fixture(?:\(.*\))?\n *def (hal_\w+)", source)
    assert "hal_backend" in fixtures
    assert [name for name in fixtures if f"`{name}`" not in PAGES["docs/writing-a-case.md"]] == []


@pytest.mark.parametrize(("name", "index", "code"), RUNNABLE, ids=[f"{name}-{index}" for name, index, _ in RUNNABLE])
def test_runnable_code_runs(name, index, code, tmp_path):
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_example_test_passes(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (example,) = re.findall(r"^```python example\n(.*?)^```", PAGES["docs/quickstart.md"], re.MULTILINE | re.DOTALL)
    (tmp_path / "test_example.py").write_text(example, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--backend=reference"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 pass" in done.stdout


def test_make_has_every_target_that_is_named():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {(name, target) for name, text in PAGES.items() for target in re.findall(r"[`$] ?make (\w+)", text)}
    assert {("README.md", "cts"), ("README.md", "test")} <= named
    assert [pair for pair in sorted(named) if pair[1] not in targets] == []


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGES["README.md"])
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_path_that_is_named_exists():
    for name, text in PAGES.items():
        for path in re.findall(r"`((?:docs|tests|cts|backends|pytest_cuda2hal)/[\w./]*)`", text):
            assert (ROOT / path).exists() or path.startswith("docs/generated"), f"{name} names {path}"


def test_sphinx_has_nothing_to_complain_about(tmp_path):
    for module in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(module)
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-b", "html"]
    command += ["-d", str(tmp_path / "doctrees"), str(DOCS), str(tmp_path / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
