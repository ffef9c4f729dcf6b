"""``--order``: cases in a random order, which can be had again, and in which no case can lean on another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from imperfect_backends import WAYS, report_of, run_way

HOOKED = "--backend=minimal"
NUMBERS = 12
CASES = f"""
    import pytest
    from pathlib import Path

    @pytest.mark.parametrize("number", range({NUMBERS}))
    def test_it(hal_device, number):
        with Path("order").open("a") as file:
            file.write(f"{{number}} ")
"""
#: The second is well only after the first.
DEPENDENT = """
    made = []

    def test_first(hal_device):
        made.append(hal_device.create_semaphore(0))

    def test_second(hal_device):
        assert made
"""
AS_DEFINED = list(range(NUMBERS))


def order(suite, *arguments, run=None):
    """Run the cases; return the order in which they came, and the result."""
    Path("order").unlink(missing_ok=True)
    result = (run or suite.run)(HOOKED, *arguments)
    assert result.ret == 0, result.stdout.str()
    return [int(number) for number in Path("order").read_text().split()], result


def seed_of(result):
    """Return the seed that the header names."""
    (seed,) = re.findall(
        r"^     in random order; again with --order=random:([0-9]+)$", result.stdout.str(), re.MULTILINE
    )
    return seed


@pytest.fixture
def numbers(suite):
    return suite.hooked().case(CASES)


@pytest.mark.parametrize("arguments", [(), ("--order=definition",), ("--hal-order=definition",)])
def test_cases_come_in_the_order_of_definition(numbers, arguments):
    seen, result = order(numbers, *arguments)
    assert seen == AS_DEFINED
    result.stdout.no_fnmatch_line("*random order*")


@pytest.mark.parametrize("option", ["--order", "--hal-order"])
def test_same_seed_gives_the_same_order(numbers, option):
    first, result = order(numbers, f"{option}=random:7", "--hal-report=report.json")
    assert seed_of(result) == "7"
    assert report_of(numbers)[0]["order"] == "random:7"
    assert first != AS_DEFINED
    assert sorted(first) == AS_DEFINED
    assert order(numbers, f"{option}=random:7")[0] == first
    assert order(numbers, f"{option}=random:8")[0] != first


def test_order_without_a_seed_can_be_had_again_from_what_the_header_says(numbers):
    first, result = order(numbers, "--order=random")
    seed = seed_of(result)
    again, result = order(numbers, f"--order=random:{seed}")
    assert again == first
    assert seed_of(result) == seed
    seeds = {seed, *(seed_of(order(numbers, "--order=random")[1]) for _ in range(2))}
    assert len(seeds) > 1


def test_isolated_cases_come_in_the_same_order(numbers):
    first, _ = order(numbers, "--order=random:7")
    assert order(numbers, "--order=random:7", "--isolate", run=numbers.run_child)[0] == first


@pytest.mark.parametrize("option", ["--order=random:7", "--order=random"])
@pytest.mark.parametrize("more", [(), ("--isolate",)])
def test_workers_agree_on_an_order(numbers, option, more):
    """pytest-xdist refuses to run where they do not."""
    seen, result = order(numbers, option, "-n", "2", "--hal-report=report.json", *more, run=numbers.run_child)
    assert sorted(seen) == AS_DEFINED
    assert report_of(numbers)[0]["order"] == f"random:{seed_of(result)}"


def test_pytest_randomly_does_not_change_the_order(numbers):
    pytest.importorskip("pytest_randomly")
    first, _ = order(numbers, "--order=random:7")
    for seed in ("1", "2"):
        result = numbers.pytester.runpytest_subprocess(
            *("-p", "no:cacheprovider", "-p", "no:hypothesispytest", HOOKED, "-q"),
            *("-p", "randomly", f"--randomly-seed={seed}", "--order=random:7"),
            timeout=60,
        )
        assert result.ret == 0, result.stdout.str()
        seen = [int(number) for number in Path("order").read_text().split()][-NUMBERS:]
        assert seen == first


def test_cases_of_each_backend_stay_together_and_other_tests_where_they_are(suite):
    suite.hooked().case(CASES.replace("def test_it(hal_device,", "def test_it(hal_backend,"))
    suite.case("def test_not_ours(): ...", "test_a")
    result = suite.run("--backend=minimal,whole", "--order=random:3", "-v")
    names = re.findall(r"^(test_\S+) PASSED", result.stdout.str(), re.MULTILINE)
    assert names[0] == "test_a.py::test_not_ours"
    specs = [next(spec for spec in ("minimal", "whole") if spec in name) for name in names[1:]]
    assert specs == ["minimal"] * NUMBERS + ["whole"] * NUMBERS
    numbers = [[int(n) for n in re.findall(rf"\[{spec}-([0-9]+)\]", "\n".join(names))] for spec in ("minimal", "whole")]
    assert numbers[0] != numbers[1]


@pytest.mark.parametrize("way", ["alone", "isolated"])
def test_case_that_depends_on_another_is_revealed(suite, way):
    """Half of the orders do; which ones is known."""
    suite.hooked().case(DEPENDENT)
    assert run_way(suite, way, HOOKED).ret == 0
    codes = {}
    for seed in range(4):
        result = run_way(suite, way, HOOKED, f"--order=random:{seed}", "--hal-report=report.json")
        codes[seed] = int(result.ret)
        failed = [case for case, one in report_of(suite)[1].items() if one["outcome"] == "fail"]
        assert failed == (["test_it::test_second"] if result.ret else [])
    assert set(codes.values()) == {0, 1}


@pytest.mark.parametrize("option", ["--order", "--hal-order"])
@pytest.mark.parametrize(
    "text", ["randm", "random:x", "random:", "random:-1", "random:1.5", "random:1:2", "definition:1"]
)
def test_order_that_cannot_be_read(suite, option, text):
    error = suite.one_line_error(suite.hooked().case(CASES).run(HOOKED, f"{option}={text}"))
    assert error == f"ERROR: --hal-order is definition, random or random:SEED (a number), not '{text}'"


@pytest.mark.parametrize("way", [way for way in WAYS if way != "alone"])
def test_order_that_cannot_be_read_is_said_once(suite, way):
    error = suite.one_line_error(run_way(suite.case(CASES), way, "--backend=reference", "--order=randm"))
    assert "not 'randm'" in error
