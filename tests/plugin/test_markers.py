"""Clause ids and capabilities in markers are checked, in cases of ours only."""

from __future__ import annotations

import pytest

BAD = """
    import pytest

    @pytest.mark.hal_clause("W-99")
    def test_it(hal_device): ...
"""


def test_unknown_clause(suite):
    error = suite.one_line_error(suite.hooked().case(BAD).run("--backend=minimal"))
    assert "test_it::test_it: the contract has no clause 'W-99'; nearest: W-9" in error


def test_unknown_clause_under_xdist(suite):
    pytest.importorskip("xdist")
    result = suite.hooked().case(BAD).run_child("--backend=minimal", "-n", "2")
    everything = result.stdout.str() + result.stderr.str()
    assert result.ret not in (0, 5)
    assert "the contract has no clause 'W-99'; nearest: W-9" in everything
    assert "INTERNALERROR" not in everything
    assert "Traceback" not in everything


def test_each_unknown_clause_is_named_once(suite):
    result = suite.hooked().case(BAD).run("--backend=minimal,whole")
    assert result.ret == 4
    assert result.stderr.str().count("W-99") == 1


def test_unknown_capability(suite):
    suite.hooked().case(
        """
        import pytest

        @pytest.mark.hal_requires("hold")
        def test_it(hal_device): ...
        """
    )
    assert "test_it::test_it: 'hold' is no Capability" in suite.one_line_error(suite.run("--backend=minimal"))


def test_a_capability_that_nobody_would_look_for(suite):
    """A backend opened by the case itself is asked for nothing, so that the case would run where it cannot."""
    suite.hooked().case(
        """
        import pytest
        from pytest_cuda2hal.hal import Capability

        @pytest.mark.hal_requires(Capability.HOLD)
        def test_it(hal_backend): ...

        @pytest.mark.hal_requires(Capability.HOLD)
        def test_of_a_device(hal_device): ...

        @pytest.mark.hal_requires(Capability.HOLD)
        def test_of_what_a_device_makes(hal_semaphores): ...

        @pytest.mark.hal_requires(Capability.HOLD)
        def test_of_several(hal_open_device): ...
        """
    )
    error = suite.one_line_error(suite.run("--backend=minimal"))
    assert "test_it::test_it: what it requires is looked for where a device is opened" in error
    assert "test_of" not in error


def test_cases_that_are_not_ours_are_not_checked(suite):
    suite.hooked().case(
        """
        import pytest

        @pytest.mark.hal_clause("W-99")
        def test_without_a_backend(): ...

        @pytest.mark.hal_clause("W-1")
        def test_ours(hal_backend): ...

        @pytest.fixture(params=["theirs"])
        def hal_backend_of_theirs(request): ...

        @pytest.mark.hal_requires("anything")
        def test_theirs(hal_backend_of_theirs): ...
        """
    )
    suite.run("--backend=minimal", "--strict-markers").assert_outcomes(passed=3)
