from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trpo_ts.validation.parameter_values import check_bool, check_instance, check_integer, check_real

NO_NUMBERS: list[Any] = [
    math.nan,
    math.inf,
    -math.inf,
    np.float32("nan"),
    np.float64("inf"),
    True,
    False,
    np.True_,
    None,
    "0.5",
    "",
    b"1",
    0.5 + 0j,
    Decimal("0.5"),
    [0.5],
    (0.5,),
    {},
    np.array(0.5),
    np.array([0.5]),
    torch.tensor(0.5),
    object,
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_a_real_number_is_asked_for(value: Any):
    with pytest.raises(ValueError, match="must be a number") as caught:
        check_real("max_kl", value, 0.0, 1.0)
    assert str(caught.value) == f"max_kl must be a number in [0, 1], got {value!r}"


@pytest.mark.parametrize(
    "value",
    [0.5, 1, 0, 1.0, np.float64(0.25), np.float32(0.25), np.float16(0.25), np.int64(1), np.uint8(0), Fraction(1, 3)],
    ids=repr,
)
def test_numbers_of_all_kinds_become_floats(value: Any):
    got = check_real("max_kl", value, 0.0, 1.0)
    assert type(got) is float
    assert got == float(value)


@pytest.mark.parametrize("value", [-1e-300, 1 + 1e-15, -1, 2, np.float32(1.5), Fraction(-1, 7)], ids=repr)
def test_numbers_outside_the_interval_are_refused(value: Any):
    with pytest.raises(ValueError, match=r"^gamma must be a number in \[0, 1\], got ") as caught:
        check_real("gamma", value, 0.0, 1.0)
    assert str(caught.value).endswith(repr(value))


@pytest.mark.parametrize(
    ("settings", "inside", "outside", "interval"),
    [
        ({"low": 0.0, "high": 1.0}, [0.0, 0.5, 1.0], [-5e-324, math.nextafter(1, 2)], r"in \[0, 1\]"),
        ({"low": 0.0, "high": 1.0, "low_open": True}, [5e-324, 1.0], [0.0, -0.0], r"in \(0, 1\]"),
        ({"low": 0.0, "high": 1.0, "high_open": True}, [0.0, math.nextafter(1, 0)], [1.0], r"in \[0, 1\)"),
        (
            {"low": 0.0, "high": 1.0, "low_open": True, "high_open": True},
            [5e-324, math.nextafter(1, 0)],
            [0.0, 1.0],
            r"in \(0, 1\)",
        ),
        ({"low": 0.0}, [0.0, 1e308], [-5e-324, math.inf], ">= 0"),
        ({"low": 0.0, "low_open": True}, [5e-324, 1e308], [0.0, math.inf, math.nan], "> 0"),
        ({"low": -1.5, "high": 2.5}, [-1.5, 2.5], [-1.6, 2.6], r"in \[-1.5, 2.5\]"),
        ({}, [-1e308, 0.0, 1e308], [math.inf, -math.inf, math.nan], ""),
    ],
    ids=str,
)
def test_ends_are_inside_unless_said_open(
    settings: dict[str, Any], inside: list[float], outside: list[float], interval: str
):
    for value in inside:
        assert check_real("x", value, **settings) == value
    for value in outside:
        with pytest.raises(ValueError, match=f"^x must be a number {interval}"):
            check_real("x", value, **settings)


@given(st.floats())
def test_what_a_real_check_returns_is_finite_and_inside(value: float):
    try:
        got = check_real("x", value, 0.0, 1.0, low_open=True, high_open=True)
    except ValueError:
        assert not 0.0 < value < 1.0
    else:
        assert 0.0 < got == value < 1.0


@pytest.mark.parametrize("value", [10**400, -(10**400), Fraction(10**400, 3)], ids=["huge", "-huge", "fraction"])
def test_a_number_too_large_for_a_float_is_refused(value: Any):
    with pytest.raises(ValueError, match=r"^x must be a number >= 0"):
        check_real("x", value, 0.0)


@pytest.mark.parametrize("value", [Fraction(1, 10**400), np.longdouble("1e-400")], ids=["fraction", "longdouble"])
def test_a_number_that_rounds_out_of_the_interval_is_refused(value: Any):
    if float(value) != 0.0 or value == 0:
        pytest.skip("long doubles are doubles on this machine")
    with pytest.raises(ValueError, match=r"^x must be a number > 0"):
        check_real("x", value, 0.0, low_open=True)


# --- integers


@pytest.mark.parametrize("value", [*NO_NUMBERS, 3.0, 2.5, np.float64(3.0), Fraction(3, 1)], ids=repr)
def test_an_integer_is_asked_for(value: Any):
    with pytest.raises(ValueError, match="must be an integer") as caught:
        check_integer("cg_iters", value, 1)
    assert str(caught.value) == f"cg_iters must be an integer >= 1, got {value!r}"


@pytest.mark.parametrize("value", [0, -1, np.int64(0), -(10**400)], ids=["0", "-1", "numpy", "huge"])
def test_integers_below_the_least_are_refused(value: Any):
    with pytest.raises(ValueError, match=r"^repeat must be an integer >= 1, got ") as caught:
        check_integer("repeat", value, 1)
    assert str(caught.value).endswith(repr(value))


@pytest.mark.parametrize("value", [1, 7, np.int64(7), np.uint8(7), np.int32(1), 10**400], ids=lambda v: str(v)[:5])
def test_integers_of_all_kinds_become_ints(value: Any):
    got = check_integer("repeat", value, 1)
    assert type(got) is int
    assert got == value


# --- booleans


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_, 0, 1, np.int64(0), np.uint8(1)], ids=repr)
def test_booleans_and_what_command_lines_give_for_them_become_bools(value: Any):
    got = check_bool("return_scaling", value)
    assert type(got) is bool
    assert got == bool(value)


@pytest.mark.parametrize(
    "value",
    [2, -1, np.int64(2), 0.0, 1.0, math.nan, np.float64(1.0), None, "True", "", "0", [], [True], np.array(True), bool],
    ids=repr,
)
def test_everything_else_is_no_boolean(value: Any):
    with pytest.raises(ValueError, match="must be True or False") as caught:
        check_bool("return_scaling", value)
    assert str(caught.value) == f"return_scaling must be True or False, got {value!r}"


# --- instances


@pytest.mark.parametrize(
    ("value", "got"),
    [(None, "NoneType"), ("net", "str"), (torch.nn.Linear, "the class Linear"), (3, "int"), (math.nan, "float")],
    ids=repr,
)
def test_another_instance_is_named_with_its_fix(value: Any, got: str):
    with pytest.raises(ValueError, match="must be") as caught:
        check_instance("critic", value, torch.nn.Module, "build one with make_critic")
    assert str(caught.value) == f"critic must be a Module, got {got}; build one with make_critic"


def test_instances_of_subclasses_pass():
    assert check_instance("critic", torch.nn.Linear(1, 1), torch.nn.Module, "") is None
