"""Options, the environment and ini values: who is asked, in which order, and what is done without opening anything."""

from __future__ import annotations

import odd_backends
import pytest

from pytest_cuda2hal import registry

CASE = """
    import pytest

    @pytest.mark.hal_clause("TL-1")
    def test_it(hal_backend):
        assert hal_backend.open_device().create_semaphore(0).query() == 0
"""


@pytest.fixture
def ini(suite):
    """A suite whose ini file asks for two backends."""
    suite.pytester.makeini("[pytest]\nhal_backend = minimal, whole\n")
    return suite.hooked().case(CASE)


@pytest.mark.parametrize("option", ["--backend", "--hal-backend"])
def test_backend_is_repeatable_and_takes_comma_lists(suite, option):
    suite.hooked().case(CASE)
    assert suite.collected(f"{option}=minimal,whole", option, "late", f"{option}=minimal") == [
        "minimal",
        "whole",
        "late",
    ]


def test_without_a_word_it_is_the_reference(suite):
    assert suite.case(CASE).collected() == ["reference"]


def test_command_line_before_environment_before_ini(ini, monkeypatch):
    assert ini.collected() == ["minimal", "whole"]
    monkeypatch.setenv("PYTEST_HAL_BACKEND", "whole deaf,late")
    assert ini.collected() == ["whole", "deaf", "late"]
    assert ini.collected("--hal-backend=own-whole") == ["own-whole"]


def test_short_and_long_option_add_up(suite):
    assert suite.hooked().case(CASE).collected("--backend=minimal", "--hal-backend=whole") == ["minimal", "whole"]


@pytest.mark.parametrize(
    ("arguments", "ini", "says"),
    [
        (["--effort=enormous"], "", "--effort: invalid choice: 'enormous'"),
        ([], "hal_effort = enormous", "ini value hal_effort is 'enormous'; use one of quick, full, soak"),
        (["--hal-deadline=soon"], "", "--hal-deadline takes seconds above 0 and below 86400, not 'soon'"),
        (["--hal-deadline=0"], "", "not '0'"),
        (["--hal-deadline=-1"], "", "not '-1'"),
        (["--hal-deadline=nan"], "", "not 'nan'"),
        (["--hal-deadline=inf"], "", "not 'inf'"),
        ([], "hal_deadline = never", "not 'never'"),
        (["--hal-clause=TL-1,W-99"], "", "--hal-clause: the contract has no clause 'W-99'; nearest: W-9"),
        (["--backend="], "", "backend spec '' has an empty part"),
        (["--backend=minimal,,whole"], "", "backend spec '' has an empty part"),
        (["--backend=whole:profile=iree:profile=iree"], "", "gives 'profile' twice"),
        (["--backend=whole:colour=red"], "", "has no option 'colour'; known options: profile"),
    ],
)
def test_bad_value_ends_the_run_with_a_usage_error(suite, arguments, ini, says):
    suite.pytester.makeini(f"[pytest]\n{ini}\n")
    result = suite.hooked().case(CASE).run(*arguments)
    assert result.ret == 4
    assert says in result.stderr.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_options_reach_the_cases(suite):
    suite.hooked().case(
        """
        def test_it(hal_deadline, hal_effort, hal_settle, hal_backend, hal_device):
            assert (hal_deadline, hal_device.deadline) == (2.5, 2.5)
            assert hal_effort.loops(1, 2) == 1
            assert hal_settle.seconds == 0.02
            assert hal_device.profile == "vulkan"
        """
    )
    suite.pytester.makeini("[pytest]\nhal_deadline = 3\nhal_effort = soak\n")
    suite.run("--backend=whole:profile=vulkan", "--effort=quick", "--hal-deadline=2.5").assert_outcomes(passed=1)


def test_clause_selects_cases(suite):
    suite.hooked().case(
        """
        import pytest

        @pytest.mark.hal_clause("TL-1", "TL-2")
        def test_two(hal_device): ...

        @pytest.mark.hal_clause("W-1")
        def test_one(hal_device): ...

        @pytest.mark.hal_clause("W-2")
        def test_other(hal_device): ...

        def test_unrelated(): ...
        """
    )
    result = suite.run("--backend=minimal", "--hal-clause=TL-2, W-1", "-v")
    result.assert_outcomes(passed=2, deselected=2)
    result.stdout.fnmatch_lines(["*test_two[[]minimal] PASSED*", "*test_one[[]minimal] PASSED*"])


def test_header_says_what_is_tested(suite):
    result = suite.hooked().case(CASE).run("--backend=minimal,incomplete", "--hal-deadline=7", "--effort=quick")
    result.stdout.fnmatch_lines(
        [
            "hal: minimal: host memory, synchronous (minimal 1.0); profile strict; 1 queue",
            "     capabilities: fail-code, host-fail, side-access",
            "hal: incomplete: host memory (python 3.*); profile strict; 4 queues",
            "     capabilities: async-alloc, async-submit, *",
            "     emulated by the adapter, so not judged: wait-any",
            "hal: suite 0.*, contract 1 (* clauses), effort quick, deadline 7 s",
            "collected 2 items",
        ]
    )


def test_header_of_a_run_that_nobody_asked_a_backend_for_comes_with_its_first_case(suite):
    result = suite.case(CASE).run()
    result.stdout.fnmatch_lines(["collected 1 item", "hal: reference: host memory (python 3.*); profile strict; *"])


def test_unrelated_suite_hears_nothing(suite):
    result = suite.hooked().case("def test_it(): ...").run("-v")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*hal*: *")
    result.stdout.no_fnmatch_line("*HAL conformance*")


@pytest.mark.parametrize("listing", ["--collect-only", "--fixtures", "--markers", "--help", "--setup-plan"])
def test_listing_opens_nothing(suite, monkeypatch, listing):
    trace = suite.pytester.path / "trace"
    monkeypatch.setenv(odd_backends.TRACE_VARIABLE, str(trace))
    suite.hooked().case(CASE)
    assert suite.run("--backend=traced,odd_backends:leaves_a_trace", listing).ret == 0
    assert not trace.exists()


def test_run_opens_what_it_was_asked_for_and_native_code_in_another_process_first(suite, monkeypatch):
    trace = suite.pytester.path / "trace"
    monkeypatch.setenv(odd_backends.TRACE_VARIABLE, str(trace))
    suite.case(CASE).run_child("--backend=odd_backends:leaves_a_trace").assert_outcomes(passed=1)
    assert len(set(trace.read_text().splitlines())) == 2  # the probe's process, then the case's


def test_list_backends(suite, monkeypatch):
    suite.installed(
        """
        [pytest_cuda2hal.backends]
        many = odd_backends:MANY
        bare = minimal_backend:HostDevice
        broken = odd_backends:no_such_thing
        lost = no_such_module:Factory
        """.replace("        ", ""),
        monkeypatch,
    )
    known = registry._entry_points
    # IREE's drivers take seconds to answer, and what they answer depends on the machine.
    monkeypatch.setattr(registry, "_entry_points", lambda: tuple(point for point in known() if point.name != "iree"))
    result = suite.hooked().run("--list-backends")
    assert result.ret == 0
    for lines in (
        ["many: several in one", "    options: size=4"],
        ["    many:present (this one is there): available; host memory, synchronous (minimal 1.0)"],
        ["    many:absent (this one is not): unavailable; *libodd.so was not found. Install odd, or do without"],
        ["bare: *", "    bare: available; host memory, synchronous (minimal 1.0)"],
        ["broken: backend 'broken' cannot be loaded: AttributeError*no_such_thing*"],
        ["lost: backend 'lost' cannot be loaded: there is no module 'no_such_module'*install its package*"],
        ["reference: the executable specification, host only", "    options: *", "    reference: available; host *"],
        ["deaf: waits never end", "    deaf: registered by a hook of this project; not probed"],
        ["one of your own: --backend=package.module:Factory"],
    ):
        result.stdout.fnmatch_lines(lines, consecutive=True)
