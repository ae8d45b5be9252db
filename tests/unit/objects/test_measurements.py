"""Measurements against numbers worked out by hand."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import regionprops

from unet_studio.axes import Axes
from unet_studio.errors import AxesError, OutputError
from unet_studio.objects.measurements import measure, units, write_table

MICRO = "micrometer"


def test_a_rectangle_in_micrometres():
    labels = np.zeros((10, 12), np.uint16)
    labels[2:5, 4:9] = 7  # 3 x 5 pixels
    axes = Axes("YX", (0.5, 0.25), (100.0, -3.0), (MICRO, MICRO))
    table = measure(labels, axes)
    assert table["label"].tolist() == [7]
    assert table["pixels"].tolist() == [15]
    assert table["area"].tolist() == [15 * 0.5 * 0.25]
    assert table["centroid_y"].tolist() == [100 + 0.5 * 3]
    assert table["centroid_x"].tolist() == [-3 + 0.25 * 6]
    assert table["equivalent_diameter"][0] == pytest.approx(2 * math.sqrt(1.875 / math.pi))
    box = [table[f"bbox_{m}_{a}"][0] for m in ("min", "max") for a in "yx"]
    assert box == [2, 4, 5, 9]
    assert units(axes) == {
        "area": "micrometer^2",
        "equivalent_diameter": MICRO,
        "centroid_y": MICRO,
        "centroid_x": MICRO,
    }


def test_a_box_in_3d():
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[1:4, 2:4, 3:5] = 1
    axes = Axes("ZYX", (2.0, 0.5, 0.5), (), (MICRO,) * 3)
    table = measure(labels, axes)
    assert table["volume"].tolist() == [12 * 0.5]
    assert (table["centroid_z"][0], table["centroid_y"][0], table["centroid_x"][0]) == (
        4,
        1.25,
        1.75,
    )
    assert table["equivalent_diameter"][0] == pytest.approx((6 * 6 / math.pi) ** (1 / 3))
    assert units(axes)["volume"] == "micrometer^3"
    assert "area" not in table


def test_units_without_a_scale_and_of_mixed_kinds():
    assert units(Axes("YX"))["area"] == "pixel^2"
    mixed = units(Axes("ZYX", units=("second", MICRO, MICRO)))
    assert mixed["volume"] == "second*micrometer^2"
    assert "equivalent_diameter" not in mixed


def test_flipped_axes_have_positive_sizes():
    labels = np.ones((2, 3), np.uint8)
    table = measure(labels, Axes("YX", (-1.0, 2.0)))
    assert table["area"].tolist() == [12]
    assert table["centroid_y"].tolist() == [-0.5]


def test_frames_are_measured_apart():
    labels = np.zeros((3, 4, 4), np.uint16)
    labels[0, 0, 0] = 5
    labels[2, :2, :2] = 5
    labels[2, 3, 3] = 1
    table = measure(labels, Axes("TYX", (10.0, 1.0, 1.0)))
    assert table["frame"].tolist() == [0, 2, 2]
    assert table["label"].tolist() == [5, 1, 5]
    assert table["pixels"].tolist() == [1, 1, 4]


def test_order_of_axes_does_not_matter():
    labels = np.random.default_rng(0).integers(0, 5, (2, 5, 6, 7))
    straight = measure(labels, Axes("TZYX", (1, 2, 3, 4)))
    turned = measure(labels.transpose(3, 1, 0, 2), Axes("XZTY", (4, 2, 1, 3)))
    assert straight.keys() == turned.keys()
    for name, column in straight.items():
        np.testing.assert_array_equal(column, turned[name], name)


@pytest.mark.parametrize("names", ["YX", "ZYX", "TYX"])
def test_nothing_there_gives_an_empty_table(names):
    table = measure(np.zeros((4,) * len(names), np.uint16), Axes(names))
    assert {len(c) for c in table.values()} == {0}
    assert "centroid_x" in table


def test_channels_are_refused():
    with pytest.raises(AxesError, match="channel"):
        measure(np.zeros((2, 4, 4), np.uint8), Axes("CYX"))
    with pytest.raises(AxesError, match="per dimension"):
        measure(np.zeros((4, 4), np.uint8), Axes("ZYX"))


def test_huge_ids_do_not_need_a_huge_table():
    labels = np.zeros((4, 4), np.uint64)
    labels[0, :2], labels[2] = 3, 2**40
    table = measure(labels, Axes("YX"))
    assert table["label"].tolist() == [3, 2**40]
    assert table["pixels"].tolist() == [2, 4]


def test_many_slabs_add_up(monkeypatch):
    labels = np.random.default_rng(1).integers(0, 9, (7, 8, 9))
    whole = measure(labels, Axes("ZYX"))
    monkeypatch.setattr("unet_studio.objects.measurements._SLAB", 100)
    for name, column in measure(labels, Axes("ZYX")).items():
        np.testing.assert_allclose(column, whole[name], err_msg=name)


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        np.int32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=8), elements=st.integers(0, 9)
    )
)
def test_agrees_with_scikit_image(labels):
    names = "ZYX"[-labels.ndim :]
    spacing = (0.7, 1.3, 2.0)[: labels.ndim]
    table = measure(labels, Axes(names, spacing))
    reference = regionprops(labels)
    assert table["label"].tolist() == [r.label for r in reference]
    for row, region in enumerate(reference):
        assert table["pixels"][row] == region.num_pixels
        for axis, name in enumerate(names.lower()):
            centre = region.centroid[axis] * spacing[axis]
            assert table[f"centroid_{name}"][row] == pytest.approx(centre)
            assert table[f"bbox_min_{name}"][row] == region.bbox[axis]
            assert table[f"bbox_max_{name}"][row] == region.bbox[axis + labels.ndim]


def test_csv_round_trip(tmp_path):
    labels = np.random.default_rng(0).integers(0, 4, (6, 6))
    axes = Axes("YX", (0.1, 0.1), (), (MICRO, MICRO))
    table = measure(labels, axes)
    target = tmp_path / "cells.csv"
    target.write_text("old")
    write_table(target, table, units(axes))
    rows = list(csv.reader(target.read_text().splitlines()))
    assert rows[0][:3] == ["label", "pixels", "area [micrometer^2]"]
    assert [float(r[2]) for r in rows[1:]] == table["area"].tolist()
    assert [int(r[0]) for r in rows[1:]] == table["label"].tolist()
    assert list(tmp_path.iterdir()) == [target], "a temporary file was left"


def test_csv_that_can_not_be_written_says_so(tmp_path):
    (tmp_path / "cells.csv").mkdir()
    with pytest.raises(OutputError, match=r"cells\.csv"):
        write_table(tmp_path / "cells.csv", measure(np.ones((2, 2), int), Axes("YX")))
