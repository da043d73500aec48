from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from diffex_dagster.report.axis import Axis, axis_over

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(numbers, max_size=20))
def test_everything_is_on_the_axis_in_order_and_so_is_zero(values: list[float]) -> None:
    axis = axis_over(values)
    places = [axis.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert 0 <= axis.at(0) <= 100
    assert 1 <= len(axis.ticks()) <= 8


def test_bars_have_a_left_edge_and_a_width() -> None:
    axis = Axis(-1, 1)
    assert axis.span(0, 0.5) == (50.0, 25.0)
    assert axis.span(0, -0.5) == (25.0, 25.0)


def test_no_number_sits_at_zero() -> None:
    assert Axis(-1, 1).at(math.nan) == 50.0


def test_ticks_are_round_and_labelled_alike() -> None:
    assert Axis(-0.25, 0.65).labelled_ticks() == [
        (-0.2, "−0.2"), (0.0, "0"), (0.2, "+0.2"), (0.4, "+0.4"), (0.6, "+0.6"),
    ]  # fmt: skip
