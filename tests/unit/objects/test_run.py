"""From a prediction to labels: axes, time, ids, dtypes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_studio.axes import Axes
from unet_studio.errors import Cancelled, RecipeError
from unet_studio.events import CancelToken
from unet_studio.images.label_types import smallest_label_dtype
from unet_studio.images.volume import VolumeInfo
from unet_studio.inference.prediction import Prediction
from unet_studio.models.card import ModelCard
from unet_studio.objects.run import run_objects
from unet_studio.pipeline import relabel
from unet_studio.recipe import Linking, ObjectsMethod

CLASSES = {"binary": ("cell",), "classes": ("background", "a", "b"), "objects": ("nucleus",)}


def prediction(probabilities, names, representation="binary", classes=None):
    axes = Axes(names, tuple(0.5 if a in "YX" else 1.0 for a in names))
    card = ModelCard(
        name="test",
        architecture="unet",
        in_channels=1,
        representation=representation,
        classes=classes or CLASSES[representation],
    )
    info = VolumeInfo(probabilities.shape, np.dtype(np.uint8), axes)
    return Prediction(np.asarray(probabilities, np.float16), axes, card, info, {})


COMPONENTS = ObjectsMethod(method="components", options={"min_size": 0})


def test_frames_are_labelled_apart_with_ids_of_their_own():
    frames = np.zeros((3, 1, 8, 8))
    frames[0, 0, 1, 1] = frames[0, 0, 5, 5] = 1
    frames[2, 0, 1, 1] = 1
    result = run_objects(prediction(frames, "TCYX"), COMPONENTS)
    assert result.axes.names == "TYX"
    assert result.axes.scale == (1.0, 0.5, 0.5)
    assert result.labels.shape == (3, 8, 8)
    assert [result.labels[0, 1, 1], result.labels[0, 5, 5], result.labels[2, 1, 1]] == [1, 2, 3]
    assert result.count == 3


def test_volumes_are_labelled_in_3d():
    volume = np.zeros((1, 4, 8, 8))
    volume[0, :, 2:4, 2:4] = 1
    result = run_objects(prediction(volume, "CZYX"), COMPONENTS)
    assert (result.axes.names, result.count) == ("ZYX", 1)


def test_default_method_is_the_models_and_all_options_are_recorded():
    result = run_objects(prediction(np.zeros((3, 8, 8)), "CYX", "objects"))
    assert result.method.method == "watershed"
    assert {"threshold", "min_size", "fill_holes"} <= result.method.options.keys()
    assert result.makes_objects
    again = run_objects(prediction(np.zeros((3, 8, 8)), "CYX", "objects"), result.method)
    assert again.method == result.method


@pytest.mark.parametrize(
    ("method", "representation", "helpful"),
    [
        ("argmax", "binary", "components"),
        ("argmax", "objects", "watershed"),
        ("watershed", "binary", "threshold"),
        ("watershed", "classes", "argmax"),
        ("threshold", "classes", "argmax"),
    ],
)
def test_a_method_that_does_not_fit_says_which_do(method, representation, helpful):
    channels = {"binary": 1, "classes": 3, "objects": 3}[representation]
    given = prediction(np.zeros((channels, 8, 8)), "CYX", representation)
    with pytest.raises(RecipeError, match=helpful):
        run_objects(given, ObjectsMethod(method=method))


def test_classes_keep_their_numbers_in_8_bits():
    probabilities = np.zeros((3, 4, 4))
    probabilities[0] = 0.5
    probabilities[2, 1, 1] = 0.9
    result = run_objects(prediction(probabilities, "CYX", "classes"))
    assert result.labels.dtype == np.uint8
    assert result.labels[1, 1] == 2
    assert result.labels.sum() == 2
    assert not result.makes_objects


def test_class_numbers_beyond_8_bits_are_kept():
    names = tuple(f"c{i}" for i in range(301))
    probabilities = np.zeros((301, 1, 2))
    probabilities[300, 0, 1] = 1
    result = run_objects(prediction(probabilities, "CYX", "classes", names))
    assert result.labels.tolist() == [[0, 300]]


@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        (0, np.uint16),
        (65_535, np.uint16),
        (65_536, np.uint32),
        (2**32 - 1, np.uint32),
        (2**32, np.uint64),
    ],
)
def test_P08_label_dtype(highest, expected):
    assert smallest_label_dtype(highest) == expected


def test_label_dtype_of_classes():
    assert smallest_label_dtype(255, objects=False) == np.uint8
    assert smallest_label_dtype(256, objects=False) == np.uint16
    with pytest.raises(ValueError, match="-1"):
        smallest_label_dtype(-1)


@pytest.mark.parametrize(("count", "dtype"), [(65_535, np.uint16), (65_536, np.uint32)])
def test_P08_ids_do_not_wrap(count, dtype):
    mask = np.zeros((1, 512, 1024), np.float16)
    flat = np.zeros(256 * 512)
    flat[:count] = 1
    mask[0, ::2, ::2] = flat.reshape(256, 512)
    result = run_objects(prediction(mask, "CYX"), COMPONENTS)
    assert result.count == count == int(result.labels.max())
    assert result.labels.dtype == dtype


def test_P08_seventy_thousand_objects_over_two_frames():
    frames = np.zeros((2, 1, 400, 400), np.float16)
    frames[:, 0, ::2, ::2] = 1  # 40,000 in each frame
    frames[1, 0, 300:] = 0
    result = run_objects(prediction(frames, "TCYX"), COMPONENTS)
    assert result.count == 70_000
    assert result.labels.dtype == np.uint32
    np.testing.assert_array_equal(np.unique(result.labels), np.arange(70_001))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    names=st.sampled_from(["CYX", "CZYX", "TCYX", "TCZYX"]),
    method=st.sampled_from(["components", "watershed"]),
)
def test_ids_are_dense_in_scan_order_and_the_input_untouched(seed, names, method):
    lengths = {"T": 2, "C": 3, "Z": 4, "Y": 13, "X": 17}
    random = np.random.default_rng(seed).random([lengths[a] for a in names])
    given_ = prediction(random, names, "objects")
    before = given_.probabilities.copy()
    options = {"min_size": 2}
    result = run_objects(given_, ObjectsMethod(method=method, options=options))
    ids, first = np.unique(result.labels, return_index=True)
    ids, first = ids[ids > 0], first[ids > 0]
    np.testing.assert_array_equal(ids, np.arange(1, result.count + 1))
    assert (np.diff(first) > 0).all()
    np.testing.assert_array_equal(given_.probabilities, before)
    assert not np.shares_memory(result.labels, given_.probabilities)


def test_a_run_can_be_stopped_between_frames():
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        run_objects(
            prediction(np.zeros((2, 1, 8, 8)), "TCYX"),
            COMPONENTS,
            check=token.raise_if_cancelled,
        )


LINKED = COMPONENTS.model_copy(update={"link": Linking()})


def test_linked_objects_keep_their_ids_and_count_once():
    frames = np.zeros((3, 1, 8, 8))
    frames[0, 0, 1:4, 1:4] = frames[1, 0, 1:4, 2:5] = frames[2, 0, 2:5, 2:5] = 1
    frames[1:, 0, 6, 6] = 1
    result = run_objects(prediction(frames, "TCYX"), LINKED)
    assert [int(result.labels[t, 2, 3]) for t in range(3)] == [1, 1, 1]
    assert result.labels[:, 6, 6].tolist() == [0, 2, 2]
    assert (result.count, result.labels.dtype, result.warnings) == (2, np.uint16, ())
    assert result.method.link == Linking()
    assert result.tracks.first_frame.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("names", "method", "why"),
    [("CYX", "components", "no time axis"), ("TCYX", "threshold", "mask or classes")],
)
def test_linking_that_makes_no_sense_is_left_out_with_a_warning(names, method, why):
    given = prediction(np.ones([{"T": 2, "C": 1}.get(n, 6) for n in names]), names)
    result = run_objects(given, ObjectsMethod(method=method, link=True))
    assert result.tracks is result.method.link is None
    assert why in result.warnings[0]
    np.testing.assert_array_equal(
        result.labels, run_objects(given, ObjectsMethod(method=method)).labels
    )


def test_a_linked_run_can_be_stopped_between_frames():
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        run_objects(
            prediction(np.zeros((2, 1, 8, 8)), "TCYX"), LINKED, check=token.raise_if_cancelled
        )


def test_relabelling_links_and_gives_one_row_of_features_per_object():
    frames = np.zeros((3, 1, 8, 8))
    frames[0, 0, 1:4, 1:4] = frames[1, 0, 1:4, 1:5] = frames[2, 0, 1:4, 1:4] = 1
    result = relabel(prediction(frames, "TCYX"), LINKED)
    assert result.measurements["frame"].tolist() == [0, 1, 2]
    assert result.tracks["last_frame"].tolist() == [2]
    assert {name: column.tolist() for name, column in result.features.items()} == {
        "label": [1], "first_frame": [0], "last_frame": [2], "parent": [0], "merged_into": [0],
        "frames": [3], "mean_pixels": [10.0], "mean_area": [2.5],
        "mean_equivalent_diameter": [pytest.approx(1.780, abs=1e-3)],
    }  # fmt: skip
    assert result.record["objects"]["tracks"]["tracks"] == result.object_count == 1
    assert result.record["recipe"]["objects"]["link"] == {"min_overlap": 0.3, "max_gap": 0}
    bare = relabel(prediction(frames, "TCYX"), LINKED, measure=False)
    assert bare.measurements == {}
    assert bare.features == bare.tracks
    plain = relabel(prediction(frames, "TCYX"), COMPONENTS)
    assert plain.tracks == {}
    assert plain.features is plain.measurements
