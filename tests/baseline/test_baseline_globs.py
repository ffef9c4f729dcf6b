"""A glob knows two wildcards and takes all else as it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_cuda2hal.baseline import glob_matches

CASE = "waits/test_any::test_it[2-True]"


@pytest.mark.parametrize(
    ("glob", "text"),
    [
        ("*", ""),
        ("*", "a/b::c[d]"),
        ("waits/*", CASE),
        ("*::test_it*", CASE),
        ("waits/test_any::test_it[2-True]", CASE),
        ("waits/test_any::test_it[?-True]", CASE),
        ("a**b", "ab"),
        ("a*b*c", "a-b-b-c"),
        ("a*", "a\nb"),
        ("?", "\n"),
        ("a.b+(c)^$|\\{1}", "a.b+(c)^$|\\{1}"),
    ],
)
def test_a_glob_matches(glob: str, text: str) -> None:
    assert glob_matches(glob, text)


@pytest.mark.parametrize(
    ("glob", "text"),
    [
        ("waits/test_any::test_it[2-True]", "waits/test_any::test_it2"),
        ("[ab]", "a"),
        ("[!a]", "b"),
        ("a.b", "axb"),
        ("a?b", "ab"),
        ("?", ""),
        ("test_it", CASE),
        ("waits", CASE),
        ("a", "a\n"),
        ("WAITS/*", CASE),
    ],
)
def test_a_glob_does_not_match(glob: str, text: str) -> None:
    assert not glob_matches(glob, text)


def slowly_matches(glob: str, text: str) -> bool:
    if not glob:
        return not text
    if glob[0] == "*":
        return any(slowly_matches(glob[1:], text[skipped:]) for skipped in range(len(text) + 1))
    return bool(text) and glob[0] in ("?", text[0]) and slowly_matches(glob[1:], text[1:])


@given(st.text("ab**?\n", max_size=8), st.text("ab*?\n", max_size=10))
def test_globs_match_as_their_definition_says(glob: str, text: str) -> None:
    assert glob_matches(glob, text) == slowly_matches(glob, text)


@given(st.text())
def test_a_text_without_wildcards_matches_itself_alone(text: str) -> None:
    glob = re.sub(r"[*?]", "-", text)
    assert glob_matches(glob, glob)
    assert not glob_matches(glob, f"{glob}x")
    assert not glob_matches(glob, f"x{glob}")


def test_many_stars_take_no_long_time() -> None:
    assert not glob_matches("*" * 60 + "b", "a" * 2000)
    assert not glob_matches("*a" * 60 + "*b", "a" * 2000)
