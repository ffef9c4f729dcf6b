"""In a suite that has nothing to do with it, the plugin changes nothing and costs next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

OTHER_OPTION = """
    def pytest_addoption(parser):
        parser.addoption("--backend", action="store", default="qt", help="theirs")
"""

OTHER_CASES = """
    import pytest

    @pytest.fixture
    def backend(request):
        return request.config.getoption("--backend")

    def test_theirs(backend):
        assert backend == "agg"
"""


@pytest.mark.parametrize("spelling", [["--backend=agg"], ["--backend", "agg"]])
def test_backend_option_of_a_conftest_stays_theirs(suite, spelling):
    suite.pytester.makeconftest(OTHER_OPTION)
    result = suite.case(OTHER_CASES).run(*spelling)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("hal: *")


def test_backend_option_of_a_plugin_stays_theirs_and_ours_has_its_long_name(suite):
    suite.pytester.makepyfile(other_plugin=OTHER_OPTION)
    suite.hooked().case(OTHER_CASES).case("def test_ours(hal_device): ...", "test_ours")
    suite.pytester.syspathinsert()
    result = suite.run("-p", "other_plugin", "--backend=agg", "--hal-backend=minimal", "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_ours[[]minimal] PASSED*"])


def test_backend_option_that_refuses_values_stays_theirs(suite):
    suite.pytester.makeconftest(OTHER_OPTION.replace('action="store"', 'action="store", choices=["agg", "qt"]'))
    suite.case(OTHER_CASES).run("--backend=agg").assert_outcomes(passed=1)
    assert suite.run("--backend=reference").ret == 4


def test_short_option_is_there_where_nobody_has_it(suite):
    result = suite.run("--help")
    assert "--backend=SPEC" in result.stdout.str()
    assert "--hal-backend=SPEC" in result.stdout.str()


def test_names_of_theirs_stay_theirs(suite):
    suite.case(
        """
        import pytest

        @pytest.fixture(params=["x", "y"])
        def hal_backend(request):
            return request.param

        @pytest.fixture
        def device(hal_backend):
            return hal_backend * 2

        @pytest.fixture
        def clause():
            return "a clause"

        @pytest.mark.hal_clause("no id of ours")
        def test_fixtures(hal_backend, device, clause):
            assert hal_backend in "xy" and device in ("xx", "yy")

        @pytest.mark.parametrize("backend", ["reference", "cuda"])
        def test_parameter(backend): ...

        @pytest.mark.parametrize("hal_backend", ["direct"])
        def test_direct_parameter(hal_backend):
            assert hal_backend == "direct"

        @pytest.mark.clause("theirs")
        def test_marker(): ...
        """
    )
    suite.pytester.makeini("[pytest]\nmarkers = clause(text): theirs\n")
    result = suite.run("--strict-markers", "-W", "error", "-v")
    result.assert_outcomes(passed=6)
    result.stdout.no_fnmatch_line("*HAL conformance*")
    result.stdout.no_fnmatch_line("hal: *")


def test_fixture_that_extends_ours_is_still_a_case(suite):
    suite.hooked().case(
        """
        import pytest

        @pytest.fixture(scope="session")
        def hal_backend(hal_backend):
            return hal_backend

        def test_it(hal_device): ...
        """
    )
    result = suite.run("--backend=minimal,whole")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["minimal: 1 pass", "whole: 1 pass"])


def test_marker_clause_is_not_registered_for_others(suite):
    suite.case("import pytest\n@pytest.mark.clause('x')\ndef test_it(): ...")
    result = suite.run_child("--strict-markers")  # pytest remembers markers for as long as its process lives
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*'clause' not found in `markers` configuration option*"])


SMALL = ("fixtures", "hookspecs", "plugin", "run", "settings")

LOADED = """
    import sys
    import pytest

    @pytest.mark.parametrize("device", [1])
    def test_it(device, tmp_path, capsys): ...
"""


def test_unrelated_run_loads_five_small_modules_and_meets_other_plugins(suite):
    suite.pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            ours = sorted(name for name in sys.modules if name.startswith("pytest_cuda2hal"))
            print("LOADED", *ours)
            print("NATIVE", *sorted({"cuda", "iree"} & set(sys.modules)))
        """
    )
    suite.pytester.makeini("[pytest]\nfilterwarnings = error\n")
    suite.case(LOADED)
    result = suite.pytester.runpytest_subprocess("-W", "error", "--strict-markers", "--strict-config")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            f"LOADED pytest_cuda2hal {' '.join(f'pytest_cuda2hal.{name}' for name in SMALL)}",
            "NATIVE",
        ]
    )
    result.stdout.no_fnmatch_line("*hal: *")


def test_run_with_every_plugin_and_without_a_cache(suite):
    for plugin in ("pytest_randomly", "pytest_timeout", "xdist"):
        pytest.importorskip(plugin)
    suite.hooked().case(
        """
        import pytest
        from pytest_cuda2hal.hal import Capability

        @pytest.mark.hal_clause("TL-1")
        @pytest.mark.hal_requires(Capability.HOST_FAIL)
        def test_it(hal_device, hal_semaphores):
            assert hal_semaphores.at(3).query() == 3
        """
    )
    suite.case("def test_theirs(): ...", "test_theirs")
    result = suite.pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "-n", "2", "--timeout=60", "-p", "randomly", "-p", "no:hypothesispytest"),
        *("-W", "error", "--strict-markers", "--backend=minimal,whole"),
    )
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["minimal: 1 pass", "whole: 1 pass"])


COST = """
import sys, time
import pytest, _pytest.pytester  # what every run has
before = time.process_time()
import pytest_cuda2hal.plugin, pytest_cuda2hal.hookspecs, pytest_cuda2hal.fixtures
print(time.process_time() - before)
"""


def test_what_every_run_imports_costs_little():
    """Processor time, and the best of several, so that a busy machine does not count."""
    costs = [
        float(subprocess.run([sys.executable, "-c", COST], capture_output=True, text=True, check=True).stdout)
        for _ in range(4)
    ]
    assert min(costs) < 0.020
