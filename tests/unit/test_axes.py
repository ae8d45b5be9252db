"""Axes: named, checked, carried through, and asked for where they are ambiguous."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_studio.axes import (
    CANONICAL,
    AmbiguousAxes,
    Axes,
    candidate_axes,
    looks_like_colour,
    rearrange,
    resolve_axes,
)
from unet_studio.errors import AxesError

ORDERS = [
    "".join(p)
    for n in range(2, 6)
    for p in itertools.permutations(CANONICAL, n)
    if {"Y", "X"} <= set(p)
]
orders = st.sampled_from(ORDERS)


@st.composite
def full_axes(draw):
    names = draw(orders)
    number = st.floats(0.01, 100)
    numbers = st.tuples(*[number] * len(names))
    return Axes(names, draw(numbers), draw(numbers), tuple(f"unit-{a}" for a in names))


@given(full_axes())
def test_reordering_keeps_the_meaning_of_each_axis(axes):
    canonical = axes.canonical
    assert sorted(canonical.names) == sorted(axes.names)
    assert [CANONICAL.index(a) for a in canonical.names] == sorted(
        CANONICAL.index(a) for a in axes.names
    )
    for axis in axes.names:
        here, there = axes.index(axis), canonical.index(axis)
        assert canonical.scale[there] == axes.scale[here]
        assert canonical.translate[there] == axes.translate[here]
        assert canonical.units[there] == axes.units[here] == f"unit-{axis}"
    assert axes.canonical.select(axes.names) == axes


@given(full_axes())
def test_with_channels_adds_at_most_a_channel(axes):
    wide = axes.with_channels()
    assert "C" in wide
    assert wide.canonical == wide
    assert wide.without("C") == axes.without("C").canonical
    assert "C" in axes or axes.without("C") == axes


@given(orders, st.data())
def test_rearranging_moves_every_pixel_with_its_axes(source, data):
    target = "".join(data.draw(st.permutations(source)))
    array = np.arange(np.prod(range(2, 2 + len(source)))).reshape(range(2, 2 + len(source)))
    moved = rearrange(array, source, target)
    assert np.shares_memory(moved, array)
    for _ in range(5):
        at = {
            a: data.draw(st.integers(0, n - 1)) for a, n in zip(source, array.shape, strict=True)
        }
        assert moved[tuple(at[a] for a in target)] == array[tuple(at[a] for a in source)]
    np.testing.assert_array_equal(rearrange(moved, target, source), array)


def test_defaults_and_small_letters():
    axes = Axes("zyx")
    assert axes.names == "ZYX"
    assert axes.scale == (1, 1, 1)
    assert axes.translate == (0, 0, 0)
    assert axes.units == ("pixel",) * 3
    assert axes.spatial == "ZYX"
    assert len(axes) == 3
    assert Axes("XCY").spatial == "YX"
    assert Axes("ZYX", (3, 2, 1)).voxel_size() == (3, 2, 1)
    assert Axes("ZYX", (3, 2, 1)).voxel_size("XY") == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "helpful"),
    [
        (("YXS",), "hold S; use letters out of T"),
        (("YXX",), "twice"),
        (("ZX",), "lack Y or X"),
        (("",), "lack Y or X"),
        (("YX", (1.0,)), "1 values of scale were given for the 2 axes YX"),
        (("YX", (), (0.0,) * 3), "3 values of translate"),
        (("YX", (), (), ("um",)), "1 values of units"),
    ],
)
def test_what_is_wrong_with_axes_is_said(arguments, helpful):
    with pytest.raises(AxesError, match=helpful):
        Axes(*arguments)


def test_an_axis_that_is_not_there():
    with pytest.raises(AxesError, match="YX have no Z"):
        Axes("YX").select("ZYX")
    with pytest.raises(AxesError, match="can not be rearranged"):
        rearrange(np.zeros((2, 2)), "YX", "ZX")


@given(st.lists(st.integers(1, 300), min_size=3, max_size=5))
def test_more_than_two_dimensions_are_never_guessed(shape):
    with pytest.raises(AmbiguousAxes) as caught:
        resolve_axes(shape)
    assert len(caught.value.candidates) > 1
    assert caught.value.candidates == candidate_axes(len(shape))
    for candidate in caught.value.candidates:
        assert candidate in str(caught.value)
        assert resolve_axes(shape, candidate) == candidate, "each one offered is accepted"


def test_two_dimensions_are_height_and_width():
    assert resolve_axes((40, 30)) == "YX"
    assert resolve_axes((40, 30), "xy") == "XY", "what is said goes before what is guessed"


@pytest.mark.parametrize("ndim", [0, 1, 6])
def test_too_few_or_many_dimensions(ndim):
    with pytest.raises(AxesError, match=f"has {ndim} dimension"):
        candidate_axes(ndim)


def test_axes_that_do_not_fit_the_shape():
    with pytest.raises(AxesError, match=r"'a\.tif' has 3 dimensions.*name 2"):
        resolve_axes((3, 40, 40), "YX", "'a.tif'")


@pytest.mark.parametrize(
    ("shape", "dtype", "colour"),
    [
        ((40, 50, 3), np.uint8, True),
        ((40, 50, 4), np.uint8, True),
        ((30, 30, 3), np.uint8, True),
        ((29, 40, 3), np.uint8, False),  # rather a stack of three columns
        ((40, 50, 3), np.uint16, False),
        ((40, 50, 2), np.uint8, False),
        ((3, 40, 50), np.uint8, False),
        ((40, 40, 40, 3), np.uint8, False),
    ],
)
def test_only_what_is_surely_colour_is_taken_for_it(shape, dtype, colour):
    assert looks_like_colour(shape, dtype) is colour
