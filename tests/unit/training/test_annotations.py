"""What was painted, as a frozen value: placed, checked, and kept on the disk."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from unet_studio.axes import Axes
from unet_studio.errors import AnnotationError
from unet_studio.images.volume import Volume, as_volume
from unet_studio.models.card import ModelCard
from unet_studio.training.annotations import (
    Box,
    annotate,
    annotations_on,
    check_annotations,
    take_pixels,
)
from unet_studio.training.corrections import corrections
from unet_studio.training.strokes_file import load_annotations, save_annotations

BINARY = ModelCard(name="b", architecture="unet", in_channels=1, representation="binary")
CLASSES = BINARY.model_copy(
    update={"representation": "classes", "classes": ("background", "membrane", "vesicle")}
)


def painted(shape=(6, 9)):
    labels = np.zeros(shape, np.uint8)
    labels[..., 1, 2:5] = 1
    labels[..., 4, 3:8] = 2
    return labels


def test_what_is_painted_later_does_not_change_annotations():
    labels = painted()
    annotations = annotate(labels)
    before = labels.copy()
    labels[:] = 2
    assert np.array_equal(annotations.dense(), before)
    with pytest.raises(ValueError, match="read-only"):
        annotations.values[0] = 5


def test_a_few_strokes_on_a_large_image_stay_small():
    labels = np.zeros((4000, 4000), np.uint8)
    labels[5, 5:20] = 2
    annotations = annotate(labels)
    assert annotations.places.nbytes + annotations.values.nbytes < 1000


@pytest.mark.parametrize("axes", ["ZYX", "YXZ", "XZY"])
def test_a_block_is_that_part_in_canonical_order(axes):
    labels = np.random.default_rng(0).integers(0, 4, (5, 7, 6)).astype(np.uint16)
    canonical = np.transpose(labels, [axes.index(a) for a in "ZYX"])
    annotations = annotate(labels, axes)
    assert annotations.axes == "ZYX"
    start, stop = (1, 2, 1), (4, 5, 4)
    part = canonical[tuple(map(slice, start, stop))]
    assert np.array_equal(annotations.block(start, stop), part)
    outside = annotations.block((-2, 0, 0), (1, 2, 2))
    assert np.array_equal(outside[2:], canonical[:1, :2, :2])
    assert not outside[:2].any()


def test_in_a_complete_box_the_rest_is_background():
    labels = painted()
    annotations = annotate(labels, mode="objects", complete=[Box((3, 2), (6, 9))])
    dense = annotations.dense()
    assert (dense[3:, 2:] > 0).all()
    assert np.array_equal(dense[4, 3:8], labels[4, 3:8])
    assert np.array_equal(dense[:3], labels[:3])


def test_a_box_beyond_the_image_is_refused():
    with pytest.raises(AnnotationError, match="does not lie within"):
        annotate(painted(), complete=[Box((0, 0), (7, 3))])


def test_another_background_id_becomes_1():
    labels = np.array([[9, 9, 1, 0], [2, 2, 1, 0]])
    dense = annotate(labels, mode="objects", background=9).dense()
    assert (dense[labels == 9] == 1).all()
    assert (dense[labels == 0] == 0).all()
    assert set(dense[(labels == 1) | (labels == 2)]) == {2, 3}


def test_of_a_corrected_copy_the_edited_pixels_are_known():
    predicted = np.array([[0, 0, 3, 3], [0, 4, 4, 3]])
    corrected = np.array([[0, 5, 3, 0], [0, 4, 4, 3]])
    assert corrections(predicted, corrected).dense().tolist() == [[0, 6, 0, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("corrected", "options", "message"),
    [
        pytest.param(np.array([[0, -5]]), {}, "negative", id="negative"),
        pytest.param(np.array([[0, 2**63 + 1]], np.uint64), {}, "beyond", id="too-large"),
        pytest.param(np.array([[0, 2]]), {"mode": "nonsense"}, "'nonsense'", id="mode"),
        pytest.param(np.array([[0, 2.5]]), {}, "whole numbers", id="no-labels"),
        pytest.param(np.array([[[0, 2]]]), {}, "such as ZYX", id="axes"),
    ],
)
def test_corrections_that_are_no_labels_are_refused(corrected, options, message):
    with pytest.raises(AnnotationError, match=message):
        corrections(np.zeros_like(corrected), corrected, **options)


@pytest.mark.parametrize("places", [[[0, 5]], [[1, 0], [0, 0]], [[0, 1], [0, 1]]])
def test_pixels_outside_or_out_of_order_are_refused(places):
    with pytest.raises(ValueError, match=r"invalid entry|C order"):
        take_pixels(np.array(places), np.ones(len(places), int), (4, 4), "YX", "objects")


def test_a_few_corrections_take_no_more_memory_than_the_labels():
    """They are read after each stroke, of labels that may be large."""
    predicted = np.zeros((2048, 2048), np.int32)
    corrected = predicted.copy()
    corrected[1000, 1000:1010] = 3
    tracemalloc.start()
    found = corrections(predicted, corrected)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 10
    assert peak < predicted.nbytes / 2


def test_annotations_land_on_their_pixels_of_a_stack_with_channels():
    volume = as_volume(np.zeros((3, 2, 6, 9), np.uint8), "ZCYX")
    labels = painted((3, 6, 9))
    annotations = annotations_on(volume, labels)
    assert (annotations.axes, annotations.shape) == ("ZYX", (3, 6, 9))
    assert np.array_equal(annotations.dense(), labels)


def test_F86_annotations_of_another_shape_are_refused():
    volume = as_volume(np.zeros((6, 8), np.uint8))
    with pytest.raises(AnnotationError, match=r"\(6, 9\).*\(6, 8\)"):
        annotations_on(volume, painted())
    with pytest.raises(AnnotationError, match="Paint on a layer made for this image"):
        annotations_on(volume, np.zeros((2, 6, 8), np.uint8))


def test_F86_annotations_of_another_scale_are_refused():
    axes = Axes("YX", (0.5, 0.5), (), ("micrometer",) * 2)
    volume = Volume(np.zeros((6, 9), np.uint8), axes)
    same = Volume(painted(), axes)
    assert len(annotations_on(volume, same)) == 8
    other = Volume(painted(), Axes("YX", (0.25, 0.25), (), ("micrometer",) * 2))
    with pytest.raises(AnnotationError, match=r"0\.25 micrometer along Y.*0\.5"):
        annotations_on(volume, other)


@pytest.mark.parametrize(
    ("labels", "card", "message"),
    [
        (np.zeros((4, 4), int), BINARY, "Nothing is annotated"),  # F80, F82
        (np.ones((4, 4), int), BINARY, "Only one class is annotated \\(background\\)"),  # F81
        (np.array([[1, 2], [3, 0]]), BINARY, "number 3, but the model 'b' knows: 1 background, 2"),
        (np.array([[1, 4]]), CLASSES, "number 4.*3 vesicle"),  # F85
    ],
    ids=["F80", "F81", "F85", "F85 classes"],
)
def test_what_can_not_be_learned_from_is_refused(labels, card, message):
    with pytest.raises(AnnotationError, match=message):
        check_annotations([annotate(labels)], card)


def test_object_ids_may_be_any_number_but_not_for_many_classes():
    objects = annotate(np.array([[1, 77, 5000]]), mode="objects")
    check_annotations([objects], BINARY)
    with pytest.raises(AnnotationError, match="annotate classes, not objects"):
        check_annotations([objects], CLASSES)


def test_classes_may_be_spread_over_images():
    check_annotations([annotate(np.array([[1, 0]])), annotate(np.array([[0, 2]]))], BINARY)


@pytest.mark.parametrize("labels", [np.array([[-1, 2]]), np.array([[0.5, 2]])])
def test_labels_are_whole_numbers_from_0(labels):
    with pytest.raises(AnnotationError):
        annotate(labels)


def test_a_file_gives_back_the_same_annotations(tmp_path):
    path = tmp_path / "a.strokes.npz"
    before = annotate(
        painted((3, 6, 9)), "TYX", mode="objects", complete=[Box((1, 0, 0), (2, 4, 4))]
    )
    save_annotations(before, path)
    after = load_annotations(path)
    assert np.array_equal(before.dense(), after.dense())
    assert (before.axes, before.mode, before.complete) == (after.axes, after.mode, after.complete)
    assert [p.name for p in tmp_path.iterdir()] == ["a.strokes.npz"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"<html>"])
def test_a_damaged_file_says_so(tmp_path, content):
    path = tmp_path / "a.strokes.npz"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=r"a\.strokes\.npz can not be read"):
        load_annotations(path)


def test_a_file_with_code_in_it_is_not_run(tmp_path):
    path = tmp_path / "a.strokes.npz"
    np.savez(path, header=np.array([{"a": 1}], object), places=[[0, 0]], values=[1])
    with pytest.raises(AnnotationError):
        load_annotations(path)


def test_S04_annotations_that_promise_more_than_they_hold(tmp_path):
    path = tmp_path / "a.strokes.npz"
    stream = io.BytesIO()
    terabytes = {"descr": "<i8", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(stream, terabytes)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", stream.getvalue())
    with pytest.raises(AnnotationError, match=r"a\.strokes\.npz can not be read"):
        load_annotations(path)
    endless = json.dumps({"shape": [float("inf"), 3], "axes": "YX", "mode": "", "complete": []})
    np.savez(
        path, header=np.frombuffer(endless.encode(), np.uint8), places=np.zeros((0, 2), int),
        values=np.zeros(0, int),
    )  # fmt: skip
    with pytest.raises(AnnotationError, match=r"a\.strokes\.npz can not be read"):
        load_annotations(path)
