"""A click session as its user sees it."""

from __future__ import annotations

import numpy as np
import pytest

from support.overlap import iou
from unet_studio import ClickSession
from unet_studio.errors import AxesError, ClickError


@pytest.mark.parametrize(("position", "number"), [((38, 52), 1), ((66, 160), 2), ((130, 75), 3)])
def test_a_click_gives_the_object_in_its_box(blobs, three_disks, position, number):
    image, labels = three_disks
    found = ClickSession(image, blobs).click(position)
    assert iou(found, labels == number) > 0.9
    assert found.mask.shape == tuple(s.stop - s.start for s in found.region)
    assert found.mask.size < 1.3 * found.area + 60 * 1.3
    assert found.changed
    assert not found.corrected
    assert found.origin == "clicks"
    assert found.confidence > 0.85
    assert found.seconds > 0
    assert found.holds(position)
    assert not found.holds((0, 0))


def test_it_looks_at_an_object_from_the_right_distance(blobs, three_disks):
    for position, radius in [((40, 50), 8), ((140, 90), 25)]:
        last = ClickSession(three_disks[0], blobs).click(position).looks[-1]
        assert 0.3 < 2 * radius / last.size < 0.65


def test_a_small_image_is_not_looked_at_among_its_mirror_images(blobs):
    image = np.zeros((30, 40), np.uint8)
    image[8:20, 10:28] = 200
    looks = ClickSession(image, blobs).click((14, 18)).looks
    assert max(view.size for view in looks) <= 80


def test_an_object_that_fills_the_first_views_is_looked_at_from_farther_away(blobs):
    image = np.zeros((900, 900), np.float32)
    image[200:600, 150:650] = 0.7
    assert iou(ClickSession(image, blobs).click((400, 400)), image > 0) > 0.9


def test_after_a_commit_the_next_object_takes_fewer_looks(blobs, three_disks):
    image = np.tile(three_disks[0][:100, :100], (2, 2))
    session = ClickSession(image, blobs)
    first = session.click((40, 50))
    session.commit()
    assert len(session.click((140, 50)).looks) < len(first.looks)


def test_a_second_click_on_the_same_object_is_one_or_two_calls(blobs, three_disks):
    session = ClickSession(three_disks[0], blobs)
    session.click((140, 90))
    before = blobs.calls
    session.click((150, 95))
    assert 1 <= blobs.calls - before <= 2


@pytest.mark.parametrize("position", [(np.nan, 3), (-1, 3), (3, 240), (np.inf, 0), (200, 10)])
def test_P24_a_click_that_is_nowhere_changes_nothing_and_says_so(blobs, three_disks, position):
    session = ClickSession(three_disks[0], blobs)
    assert session.click(position).area == 0
    assert not session.can_undo
    session.click((60, 160))
    journal = session.journal
    found = session.click(position, positive=False)
    assert not found.changed
    assert "outside the image; nothing was changed" in found.note
    assert found.area == session.proposal.area > 0
    assert session.journal == journal


def test_a_position_of_other_dimensions_is_refused(blobs, three_disks):
    with pytest.raises(AxesError, match="one for each of Y, X"):
        ClickSession(three_disks[0], blobs).click((1, 2, 3))


def test_a_negative_click_before_any_other_says_what_to_do(blobs, three_disks):
    session = ClickSession(three_disks[0], blobs)
    found = session.click((60, 160), positive=False)
    assert found.area == 0
    assert "click on an object first" in found.note
    # It counts once there is an object.
    assert session.click((140, 90)).area > 1800


def test_undo_and_redo_go_through_clicks_and_commits(blobs, three_disks):
    session = ClickSession(three_disks[0], blobs)
    one = session.click((140, 90))
    two = session.click((60, 160))
    assert two.area > one.area
    committed = session.commit()
    assert (committed.labels > 0).sum() == two.area
    assert not session.started
    session.click((40, 50))
    words = []
    while session.can_undo:
        words.append(session.undo().what)
    assert words == ["click", "commit", "click", "click"]
    assert not session.labels.any()
    assert session.proposal.area == 0
    assert session.undo() is None
    for _ in range(3):
        session.redo()
    assert session.can_redo == "click"
    assert (session.labels > 0).sum() == two.area
    session.undo()
    np.testing.assert_array_equal(session.proposal.mask, two.mask)
    session.undo()
    np.testing.assert_array_equal(session.proposal.mask, one.mask)
    session.click((40, 50))
    assert not session.can_redo


def test_reset_drops_the_object_and_can_be_undone(blobs, three_disks):
    session = ClickSession(three_disks[0], blobs)
    found = session.click((140, 90))
    session.reset()
    assert session.proposal.area == 0
    assert session.commit().id == 0
    session.undo()
    np.testing.assert_array_equal(session.proposal.mask, found.mask)


def test_P24_what_is_read_is_never_stale(blobs, three_disks):
    """P24: the image may change between two clicks; the next click sees the new one."""
    image = three_disks[0].copy()
    session = ClickSession(image, blobs)
    before = session.click((140, 90)).area
    image[115:140] = 0
    assert session.click((150, 90)).area < 0.6 * before


def test_scribbles_are_inside_or_outside_pixel_by_pixel(blobs, three_disks):
    session = ClickSession(three_disks[0], blobs)
    found = session.scribble([(40, 50), (60, 160)])
    line = np.round(np.linspace((40, 50), (60, 160), 500)).astype(int)
    assert all(found.holds(tuple(p)) for p in line)
    assert found.corrected
    session.reset()
    session.click((140, 90))
    found = session.scribble([(130, 80), (130, 230)], positive=False)
    assert not any(found.holds((130, x)) for x in range(80, 120))
    assert not session.scribble([(np.nan, 3), (-40, 2)]).changed


def test_a_box_gives_what_is_in_it(blobs, three_disks):
    image, labels = three_disks
    session = ClickSession(image, blobs)
    # The stand-in needs a click; the box says where the object ends.
    session.click((140, 90))
    found = session.box((110, 60), (140, 260))
    assert found.origin == "box"
    rows = np.nonzero(found.mask)[0]
    assert rows.max() + found.region[0].start <= 140 + 12
    assert found.area < 0.8 * (labels == 3).sum()
    assert not session.box((0, 0), (10, 10)).changed
    assert "leaves out a positive click" in session.box((0, 0), (10, 10)).note


def test_a_box_alone_is_looked_at_once_from_its_own_distance(random_network):
    image = np.random.default_rng(0).integers(0, 255, (300, 300)).astype(np.uint8)
    found = ClickSession(image, random_network).box((100, 100), (160, 140))
    assert found.looks[0].size == pytest.approx(61 / 0.45, abs=2)
    whole = np.zeros(image.shape, bool)
    whole[found.region] = found.mask
    assert not whole[:95].any()
    assert not whole[:, 145:].any()


# -- beginning with what is there ---------------------------------------------


def test_an_object_of_the_labels_is_corrected_under_its_id(blobs, three_disks):
    image, labels = three_disks
    labels = labels.copy()
    labels[labels == 3] = 0
    labels[130:150, 70:180] = 7  # a bad object, half of it beside the disk
    session = ClickSession(image, blobs, labels=labels)
    started = session.start_from(labels, (140, 90))
    assert started.area == 20 * 110
    assert started.origin == "mask"
    session.click((140, 90))
    found = session.click((140, 170), positive=False)
    assert found.area < 2400
    committed = session.commit()
    assert committed.id == 7
    assert (labels == 7).sum() == found.area
    session.undo()
    assert (labels == 7).sum() == 20 * 110


def test_a_mask_of_one_plane_can_be_started_from(blobs, three_disks):
    session = ClickSession(three_disks[0], blobs)
    mask = three_disks[1] == 2
    assert session.start_from(mask).area == mask.sum()
    assert session.commit().labels.sum() == mask.sum()
    with pytest.raises(ClickError, match="shape"):
        session.start_from(mask[:20])


def test_picking_takes_the_object_of_an_ordinary_model(blobs):
    from unet_studio import segment
    from unet_studio.samples import read_sample

    image = read_sample("nuclei_fluorescence")[:160, :160]
    result = segment(image, "nuclei")
    session = ClickSession(image, blobs)
    y, x = (int(v[100]) for v in np.nonzero(result.labels))
    number = result.labels[y, x]
    found = session.pick((y, x), result)
    np.testing.assert_array_equal(found.mask, result.labels[found.region] == number)
    assert found.origin == "picked from the result of nuclei"
    again = session.pick((y, x), result.prediction)
    np.testing.assert_array_equal(again.mask, found.mask)
    y, x = (int(v[0]) for v in np.nonzero(result.labels == 0))
    nothing = session.pick((y, x), result)
    assert not nothing.changed
    assert f"no object at ({y}, {x})" in nothing.note
