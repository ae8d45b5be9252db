"""Clicked objects are what Refine learns from."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

from unet_studio.clicks.commit import Change, Edit
from unet_studio.clicks.exporting import annotations_of, write_annotations
from unet_studio.clicks.session import ClickSession
from unet_studio.errors import AnnotationError, ClickError


def test_objects_become_annotations_with_a_ring_of_background(blobs, three_disks):
    image, truth = three_disks
    session = ClickSession(image, blobs)
    with pytest.raises(ClickError, match="No object of .* was committed yet"):
        session.export_annotations()
    for position in [(140, 90), (60, 160), (40, 50)]:
        session.click(position)
        session.commit()
    session.erase((40, 50))
    found = session.export_annotations(ring=2)
    assert (found.mode, found.axes, found.shape) == ("objects", "YX", image.shape)
    dense = found.dense()
    assert set(np.unique(dense)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(dense > 1, session.labels > 0)
    ring = dense == 1
    assert ring.any()
    assert not (ring & (truth > 0)).sum() > 40  # the stand-in is a pixel off here and there
    assert not (session.export_annotations(ring=0).dense() == 1).any()


def test_the_ring_leaves_neighbours_alone(blobs, three_disks):
    image, _ = three_disks
    labels = np.zeros(image.shape, np.uint16)
    labels[:, 100:] = 90
    session = ClickSession(image, blobs, labels=labels)
    session.click((140, 90))
    session.commit(policy="overwrite")
    dense = session.export_annotations().dense()
    assert not (dense == 1)[labels == 90].any()


def test_annotations_are_in_the_order_that_refine_takes(blobs, three_disks):
    image, _ = three_disks
    stack = np.moveaxis(np.stack([image * 0, image, image * 0]), 0, 2)
    session = ClickSession(stack, blobs, axes="YXZ")
    session.click((140, 90, 1))
    session.commit()
    found = session.export_annotations()
    assert found.axes == "ZYX"
    np.testing.assert_array_equal(found.dense()[1] > 1, session.labels[..., 1] > 0)
    assert not found.dense()[[0, 2]].any()


def test_objects_of_an_endless_image_are_annotated_where_they_are():
    """Neither time nor memory may go with the size of the image: this one has 2 ** 60 pixels."""
    labels = zarr.create_array(
        store=MemoryStore(), shape=(2**30, 2**30), chunks=(256, 256), dtype=np.uint16
    )
    region = slice(2**29, 2**29 + 4), slice(900, 906)
    labels[region] = 7
    change = Change(region, np.zeros((4, 6), np.uint16), np.full((4, 6), 7, np.uint16))
    found = annotations_of(labels, "YX", [Edit("commit", 7, (change,))])
    assert (found.shape, found.mode) == (labels.shape, "objects")
    np.testing.assert_array_equal(
        found.block((2**29, 900), (2**29 + 5, 906)), [[2] * 6] * 4 + [[1] * 6]
    )
    with pytest.raises(AnnotationError, match="not enough memory"):
        found.dense()


def test_refine_takes_them(blobs, three_disks):
    from unet_studio import refine

    session = ClickSession(three_disks[0], blobs)
    for position in [(140, 90), (60, 160), (40, 50)]:
        session.click(position)
        session.commit()
    refined = refine(
        three_disks[0], session.export_annotations(), "random:unet-tiny?representation=objects",
        steps=1, rehearse=0,
    )  # fmt: skip
    assert refined.model.card.representation == "objects"


def disks_of(count, radius=60):
    """Labels with disks in a row, and the edits that put them there."""
    edge = 2 * radius + 1
    labels = np.zeros((edge, count * edge), np.uint16)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    inside = y * y + x * x <= radius * radius
    edits = []
    for n in range(count):
        region = slice(0, edge), slice(n * edge, (n + 1) * edge)
        after = np.where(inside, n + 1, 0).astype(np.uint16)
        edits.append(Edit("commit", n + 1, (Change(region, np.zeros_like(after), after),)))
        labels[region] = after
    return labels, edits


def test_memory_goes_with_arrays_of_pixels():
    """Not with a number object for each of them."""
    labels, edits = disks_of(30)
    tracemalloc.start()
    found = annotations_of(labels, "YX", edits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) > 300_000
    assert peak < 100 * len(found)


def test_they_are_written_into_an_array_as_they_are_returned():
    labels, edits = disks_of(7, radius=9)
    labels[:, 60:70] = 1  # an object may have been painted over another
    edits.append(Edit("commit", 3, edits[2].changes))  # twice: it was corrected
    edits.append(Edit("erase", 9, ()))
    into = np.zeros(labels.shape, np.int32)
    assert write_annotations(into, labels, edits) == 7
    np.testing.assert_array_equal(into, annotations_of(labels, "YX", edits).dense())
    assert not write_annotations(into * 0, labels * 0, edits)
