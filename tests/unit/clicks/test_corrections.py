"""What a correction gives up, which ids are free, and what undo takes back."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio.clicks.journal import replay
from unet_studio.clicks.session import ClickSession


def run(steps):
    for _ in steps:
        pass


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
def test_a_correction_that_is_propagated_gives_up_its_old_pixels(blobs, axes):
    inside = np.zeros((5, 80, 90), bool)
    inside[:, 30:50, 30:50] = True
    image = (inside * 200).astype(np.uint8)
    labels = np.zeros(image.shape, np.uint16)
    labels[:, 30:50, 30:62] = 7  # too wide everywhere
    session = ClickSession(image, blobs, axes=axes, labels=labels)
    session.start_from(labels, (2, 40, 55))
    session.click((2, 40, 56), positive=False)
    session.click((2, 40, 40))
    run(session.propagate(axes[0]))
    assert session.commit().id == 7
    assert not (labels[~inside] == 7).any()
    assert (labels[inside] == 7).all()


def test_an_id_that_was_given_does_not_make_used_ones_free(blobs, three_disks):
    labels = np.zeros(three_disks[0].shape, np.uint16)
    labels[0, 0] = 50
    session = ClickSession(three_disks[0], blobs, labels=labels)
    session.click((140, 90))
    session.commit(number=3)
    session.click((60, 160))
    assert session.commit().id == 51


def test_an_id_that_was_painted_meanwhile_is_not_free(blobs, three_disks):
    labels = np.zeros(three_disks[0].shape, np.uint16)
    session = ClickSession(three_disks[0], blobs, labels=labels)
    session.click((140, 90))
    assert session.commit().id == 1
    labels[0, 0] = 2
    session.click((60, 160))
    assert session.commit().id == 3


def test_undo_leaves_what_others_changed_since(blobs, three_disks):
    labels = np.zeros(three_disks[0].shape, np.uint16)
    session = ClickSession(three_disks[0], blobs, labels=labels)
    session.click((140, 90))
    session.commit()
    labels[140, 88:92] = 9
    box = np.argwhere(labels == 1).min(axis=0)
    labels[tuple(box)] = 8  # in its box
    session.undo()
    assert (labels == 9).sum() == 4
    assert (labels == 8).sum() == 1
    assert not (labels == 1).any()
    session.redo()
    assert (labels == 9).sum() == 4


def test_undo_goes_on_after_the_labels_grew(blobs, three_disks):
    labels = np.zeros(three_disks[0].shape, np.uint8)
    session = ClickSession(three_disks[0], blobs, labels=labels)
    session.click((140, 90))
    session.commit()
    session.click((60, 160))
    assert session.commit(number=300).grown
    while session.can_undo:
        session.undo()
    assert session.labels.dtype == np.uint16
    assert not session.labels.any()


def test_a_frame_that_is_clicked_in_a_correction_gives_up_its_old_pixels(blobs):
    inside = np.zeros((5, 80, 90), bool)
    inside[:, 30:50, 30:50] = True
    labels = np.zeros(inside.shape, np.uint16)
    labels[:, 30:50, 30:62] = 7  # too wide everywhere
    session = ClickSession((inside * 200).astype(np.uint8), blobs, axes="TYX", labels=labels)
    session.start_from(labels, (2, 40, 55))
    session.click((2, 40, 56), positive=False)
    session.click((2, 40, 40))
    session.click((4, 40, 40))
    assert session.commit().id == 7
    for frame, corrected in enumerate([False, False, True, False, True]):
        wide = (labels[frame] == 7) & ~inside[frame]
        assert wide.any() == (not corrected), frame
        assert (labels[frame][inside[frame]] == 7).all()


def test_a_journal_takes_back_the_same_steps_without_the_labels_of_then(random_network):
    """As a window restores it: what was erased then is not there to be erased."""
    image = np.random.default_rng(0).integers(0, 255, (60, 70), np.uint8)
    labels = np.zeros(image.shape, np.uint16)
    labels[10:20, 10:20] = 9
    session = ClickSession(image, random_network, labels=labels)
    mask = np.zeros(image.shape, bool)
    mask[15:40, 15:40] = True  # a part of it is 9's
    session.start_from(mask)
    assert session.commit().id == 10
    assert session.erase((17, 17)).id == 9
    session.undo()
    session.redo()
    assert not (labels == 9).any()
    again = replay(image, session.journal, random_network)
    assert np.array_equal(again.labels, mask * 10)
    assert again.journal == session.journal
    assert again.undo().what == "erase"
    assert np.array_equal(again.labels, mask * 10)
    assert again.undo().what == "commit"
    assert not again.labels.any()
