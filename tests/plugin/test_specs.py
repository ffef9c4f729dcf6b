"""Specs and the registry: what can be written, what it means, and what a mistake is answered with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import pytest

from pytest_cuda2hal.hal import Backend, BadOption
from pytest_cuda2hal.registry import Registry, Spec, SpecError, parse_spec, parse_specs

if TYPE_CHECKING:
    from decimal import Decimal


@pytest.mark.parametrize(
    ("text", "name", "variant", "options"),
    [
        ("cuda", "cuda", None, {}),
        ("iree:local-task", "iree", "local-task", {}),
        ("iree:local-task:queues=4", "iree", "local-task", {"queues": "4"}),
        ("reference:profile=iree:seed=7", "reference", None, {"profile": "iree", "seed": "7"}),
        ("my.module:Factory:path=a=b", "my.module", "Factory", {"path": "a=b"}),
        ("x:key=", "x", None, {"key": ""}),
    ],
)
def test_spec(text, name, variant, options):
    assert parse_spec(text) == Spec(text, name, variant, options)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has an empty part"),
        (":local-task", "has an empty part"),
        ("iree:", "has an empty part"),
        ("iree::queues=4", "has an empty part"),
        ("reference:seed=1:seed=2", "gives 'seed' twice"),
        ("iree:local-task:vulkan", "only the first part is a variant"),
        ("reference:=7", "has no key before the '='"),
    ],
)
def test_spec_that_cannot_be_read(text, says):
    with pytest.raises(SpecError, match=says) as caught:
        parse_spec(text)
    assert "\n" not in str(caught.value)


def test_lists_of_specs():
    assert [spec.text for spec in parse_specs(["a, b:v", "c", "a"])] == ["a", "b:v", "c"]
    with pytest.raises(SpecError, match="empty part"):
        parse_specs(["a,,b"])


def open_odd(
    *,
    number: int = 1,
    maybe: int | None = None,
    old: Optional[int] = None,  # noqa: UP045 - what people write
    ratio: float = 0.5,
    flag: bool = False,
    text: str = "",
    strange: Decimal | None = None,
    bare=None,
):
    return (number, maybe, old, ratio, flag, text, strange, bare)


ODD = Backend("odd", "takes options", open_odd)
VARIED = Backend("varied", "has variants", lambda variant: variant, variants={"one": "1", "two": "2"})
REGISTRY = Registry([ODD, VARIED])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("number=0x10", {"number": 16}),
        ("maybe=3", {"maybe": 3}),
        ("old=3", {"old": 3}),
        ("ratio=1e-3", {"ratio": 0.001}),
        ("flag=true", {"flag": True}),
        ("flag=0", {"flag": False}),
        ("text=7", {"text": "7"}),
        ("strange=7", {"strange": "7"}),
        ("bare=7", {"bare": "7"}),
    ],
)
def test_option_has_the_type_that_open_names(text, expected):
    assert REGISTRY.resolve(parse_spec(f"odd:{text}")).keywords == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("odd:number=many", "option 'number' takes a number, not 'many'"),
        ("odd:flag=perhaps", "option 'flag' takes true or false, not 'perhaps'"),
        ("odd:nubmer=1", "no option 'nubmer'; known options: bare, flag, maybe, number, old, ratio, strange, text"),
        ("odd:loud", "has no variants; 'loud' must be KEY=VALUE"),
        ("varied", "needs a variant; write one of varied:one, varied:two"),
        ("varied:three", "no variant 'three'; known: varied:one, varied:two"),
        ("varied:one:x=1", "no option 'x'; known options: none"),
        ("odds", "unknown backend 'odds'; did you mean 'odd'"),
        ("quite-different", "unknown backend 'quite-different'; known: "),
        ("odds:Factory", "there is no module 'odds' (asked for by 'odds:Factory'); did you mean 'odd'"),
        ("json:Factory", "module 'json' has no 'Factory'"),
        ("json:decoder.Nothing", "module 'json' has no 'decoder.Nothing'"),
        ("string:digits", "is str; a Device class, a Backend or a function is needed"),
    ],
)
def test_what_cannot_be_resolved_is_answered_with_what_can(text, says):
    with pytest.raises(SpecError) as caught:
        REGISTRY.resolve(parse_spec(text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_variant_is_handed_to_open():
    assert str(REGISTRY.resolve(parse_spec("varied:two")).open_device()) == "two"
    assert REGISTRY.resolve(parse_spec("varied:two")).keywords == {"variant": "two"}


def test_name_of_a_hook_takes_the_place_of_an_entry_point():
    mine = Backend("reference", "mine", open_odd)
    assert Registry([mine]).backend("reference") is mine
    assert Registry().backend("reference") is not mine


def test_factory_without_a_signature_has_no_options():
    opaque = Backend("opaque", "", type("Opaque", (), {"__call__": open_odd, "__signature__": 7})())
    assert opaque.parse_options({}) == {}
    with pytest.raises(BadOption, match="no option 'x'; known options: none"):
        opaque.parse_options({"x": "1"})
