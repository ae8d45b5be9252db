"""Objects into labels: pure edits of a box, and back again."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio.clicks import commit
from unet_studio.clicks.prompts import Patch
from unet_studio.clicks.session import ClickSession
from unet_studio.errors import ClickError


def edit_of(labels, policy, replaces=0, start=None, number=9):
    mask = Patch(2, 3, np.ones((4, 5), bool))
    return commit.commit_edit(labels, "YX", [({}, mask, start)], number, policy, replaces)


@pytest.fixture
def labels():
    found = np.zeros((10, 12), np.uint8)
    found[3:5, 0:6] = 4
    return found


def test_keep_leaves_other_objects_their_pixels(labels):
    before = labels.copy()
    edit = edit_of(labels, "keep")
    np.testing.assert_array_equal(labels, before)  # nothing is written yet
    commit.apply(labels, edit)
    assert (labels == 9).sum() == 20 - 6
    assert (labels == 4).sum() == 12
    commit.revert(labels, edit)
    np.testing.assert_array_equal(labels, before)


def test_overwrite_takes_them(labels):
    commit.apply(labels, edit_of(labels, "overwrite"))
    assert (labels == 9).sum() == 20
    assert (labels == 4).sum() == 6


def test_a_corrected_object_gives_its_old_pixels_up_unless_only_background_is_written(labels):
    start = Patch(3, 0, np.ones((2, 6), bool))
    for policy, own in (("keep", 20), ("background", 26)):
        written = labels.copy()
        commit.apply(written, edit_of(written, policy, replaces=4, start=start, number=4))
        assert (written == 4).sum() == own
        assert (written[3:5, 0:3] == 4).any() == (policy == "background")


def test_indices_and_values_are_what_a_labels_layer_takes(labels):
    edit = edit_of(labels, "keep")
    by_hand = labels.copy()
    for change in edit.changes:
        by_hand[change.indices()] = change.values()
    commit.apply(labels, edit)
    np.testing.assert_array_equal(by_hand, labels)
    stack = np.zeros((3, 10, 12), np.uint8)
    mask = Patch(2, 3, np.ones((4, 5), bool))
    edit = commit.commit_edit(stack, "ZYX", [({"Z": 1}, mask, None)], 9)
    by_hand = stack.copy()
    by_hand[edit.changes[0].indices()] = edit.changes[0].values()
    commit.apply(stack, edit)
    np.testing.assert_array_equal(by_hand, stack)
    assert (stack[1] == 9).sum() == stack.astype(bool).sum() == 20


def test_an_unknown_policy_is_refused(labels):
    with pytest.raises(ClickError, match="keep, overwrite, background"):
        edit_of(labels, "ask")


@pytest.mark.parametrize("axes", ["ZYX", "XYZ", "YTX"])
def test_any_order_of_axes(axes):
    lengths = {"Z": 4, "T": 4, "Y": 10, "X": 12}
    labels = np.zeros([lengths[a] for a in axes], np.uint16)
    third = next(a for a in axes if a not in "YX")
    mask = Patch(2, 3, np.tri(4, 5, dtype=bool))
    commit.apply(labels, commit.commit_edit(labels, axes, [({third: 2}, mask, None)], 5))
    expected = np.zeros((10, 12), bool)
    expected[2:6, 3:8] = np.tri(4, 5)
    found = np.moveaxis(labels, [axes.index(a) for a in third + "YX"], [0, 1, 2])
    np.testing.assert_array_equal(found[2] == 5, expected)
    assert (labels > 0).sum() == expected.sum()


def test_the_next_id_is_free_and_counted_once(blobs, three_disks):
    labels = np.zeros(three_disks[0].shape, np.int32)
    labels[0, 0] = 41
    assert commit.next_id(labels) == 42
    assert commit.next_id(np.zeros((3, 4, 5), np.uint8)) == 1
    assert commit.next_id(np.full((3, 4, 5), -2)) == 1
    session = ClickSession(three_disks[0], blobs, labels=labels)
    for position in [(140, 90), (60, 160)]:
        session.click(position)
        committed = session.commit()
    assert committed.id == 43
    assert committed.labels is labels
    session.undo()
    session.commit()
    # An id that was taken back is not given to another object: it may be in use elsewhere.
    assert set(np.unique(labels)) - {0, 41, 42} == {44}


def test_a_type_that_is_too_small_grows_into_a_new_array(blobs, three_disks):
    labels = np.zeros(three_disks[0].shape, np.uint8)
    labels[0, 0] = 255
    session = ClickSession(three_disks[0], blobs, labels=labels)
    found = session.click((140, 90))
    committed = session.commit()
    assert committed.grown
    assert "larger type" in committed.note
    assert committed.labels.dtype == np.uint16
    assert committed.labels is session.labels
    assert (committed.labels == 256).sum() == found.area
    assert not (labels == 1).any()
    assert labels.max() == 255
    session.undo()
    assert session.labels.max() == 255
    for dtype, number, grown in (
        (bool, 2, "u2"), ("i1", 128, "i2"), ("i2", 40000, "i4"), ("u2", 65536, "u4"),
        ("u4", 2**32, "u8"),
    ):  # fmt: skip
        assert commit.grown(np.zeros(3, dtype), number).dtype == np.dtype(grown)


def test_a_file_is_not_rewritten_in_another_type(blobs, three_disks, tmp_path):
    import zarr

    stored = zarr.create_array(
        str(tmp_path / "l.zarr"), shape=three_disks[0].shape, dtype="u1", chunks=(64, 64)
    )
    session = ClickSession(three_disks[0], blobs, labels=stored)
    session.click((140, 90))
    assert session.commit().id == 1
    assert (stored[:] == 1).sum() > 1800
    session.undo()
    assert not stored[:].any()
    with pytest.raises(ClickError, match="stored as uint8, which ends before 300"):
        session.commit(number=300)
    assert session.started  # nothing is lost


def test_the_owner_may_write(blobs, three_disks):
    labels = np.zeros(three_disks[0].shape, np.uint8)
    session = ClickSession(three_disks[0], blobs)
    found = session.click((140, 90))
    committed = session.commit(labels, write=False)
    assert not labels.any()
    commit.apply(labels, committed.edit)
    assert (labels == committed.id).sum() == found.area
    step = session.undo()
    assert labels.any()  # the session does not touch it
    commit.revert(labels, step.edit)
    assert not labels.any()


def test_nothing_is_written_where_others_have_it_all(blobs, three_disks):
    labels = np.ones(three_disks[0].shape, np.uint8)
    session = ClickSession(three_disks[0], blobs, labels=labels)
    session.click((140, 90))
    committed = session.commit()
    assert committed.id == 0
    assert "other objects have all of its pixels" in committed.note
    assert session.started
    assert session.commit(policy="overwrite").id == 2


def test_labels_of_another_image_are_refused(blobs, three_disks):
    session = ClickSession(three_disks[0], blobs)
    session.click((140, 90))
    for labels in (np.zeros((10, 10), int), np.zeros(three_disks[0].shape, float)):
        with pytest.raises(ClickError, match="made for this image"):
            session.commit(labels)
    with pytest.raises(ClickError, match="ids begin with 1"):
        session.commit(number=-2)


class Watched:
    def __init__(self, array):
        self.array, self.most = array, 0
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key):
        found = self.array[key]
        self.most = max(self.most, found.size)
        return found


def test_a_piece_is_found_without_reading_the_whole_image():
    labels = np.zeros((3, 3000, 3000), np.uint16)
    labels[1:, 1000:1200, 1500:1520] = 7
    labels[1, 1300:1310, 1500:1510] = 7  # another piece of the same id
    watched = Watched(labels)
    piece = commit.piece_at(watched, (1, 1100, 1510))
    assert piece.region == (slice(1, 3), slice(1000, 1200), slice(1500, 1520))
    assert piece.mask.all()
    assert watched.most < 500 * 500 * 3
    assert commit.piece_at(watched, (1, 1100, 1510), fixed=(0,)).mask.shape == (1, 200, 20)
    assert commit.piece_at(watched, (0, 0, 0)) is None


def test_a_winding_piece_is_found_whole():
    labels = np.zeros((300, 300), np.uint8)
    for row in range(0, 300, 4):
        labels[row] = 1
        labels[row : row + 4, 299 if row % 8 else 0] = 1
    assert commit.piece_at(labels, (150 // 4 * 4, 150)).mask.sum() == labels.sum()


def test_erasing_takes_the_connected_piece_in_all_dimensions(blobs):
    image = np.zeros((4, 60, 60), np.uint8)
    labels = np.zeros(image.shape, np.uint8)
    labels[:3, 10:20, 10:20] = labels[:, 40:50, 40:50] = 5
    session = ClickSession(image, blobs, axes="TYX", labels=labels)
    edit = session.erase((1, 15, 15))
    assert edit.pixels == 300
    assert (labels == 5).sum() == 400
    assert session.erase((0, 0, 0)) is None
    assert session.erase((np.nan, 0, 0)) is None
    assert session.can_undo == "erase"
    session.undo()
    assert (labels == 5).sum() == 700
