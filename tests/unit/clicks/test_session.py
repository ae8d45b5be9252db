"""A click session as its user sees it."""

from __future__ import annotations

import json

import dask.array as da
import numpy as np
import pytest
import zarr

from unet_studio import ClickSession, load_model, replay
from unet_studio.clicks.network import ClickNetwork
from unet_studio.errors import AxesError, ClickError
from unet_studio.inference import devices
from unet_studio.models.model import Model
from unet_studio.samples import read_sample


def iou(proposal, truth):
    found = np.zeros(truth.shape, bool)
    found[proposal.region] = proposal.mask
    return (found & truth).sum() / (found | truth).sum()


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


# -- images of every kind -----------------------------------------------------


def truth_of(image, axes, blobs, position, **options):
    return ClickSession(image, blobs, axes=axes, **options).click(position)


def test_P24_every_order_of_axes_gives_the_same_object(blobs, three_disks):
    image, _ = three_disks
    stack = np.zeros((4, *image.shape), np.uint8)
    stack[2] = image
    expected = truth_of(image, "YX", blobs, (140, 90))
    variants = [
        (stack, "ZYX", (2.3, 140, 90), lambda m: m),
        (stack.transpose(1, 2, 0), "YXZ", (140, 90, 2), lambda m: m),
        (stack.transpose(2, 0, 1), "XZY", (90, 1.6, 140), lambda m: m.T),
        (stack[None], "TZYX", (0, 2, 140, 90), lambda m: m),
        (np.stack([image] * 3, -1), "YXC", (140, 90), lambda m: m),
        (np.stack([stack * 0, stack], 1), "ZCYX", (2, 140, 90), lambda m: m),
    ]
    for array, axes, position, turned in variants:
        options = {"channels": (1,)} if axes == "ZCYX" else {}
        found = truth_of(array, axes, blobs, position, **options)
        np.testing.assert_array_equal(turned(found.mask), expected.mask, err_msg=axes)
        labels = np.zeros([n for n, a in zip(array.shape, axes, strict=True) if a != "C"])
        assert labels[found.region].shape == found.mask.shape


def test_P24_dask_zarr_and_numpy_give_the_same(blobs, three_disks, tmp_path):
    image, _ = three_disks
    stored = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=image.shape, dtype="u1", chunks=(64, 64)
    )
    stored[:] = image
    expected = ClickSession(image, blobs).click((140, 90))
    for array in (da.from_array(image, chunks=50), stored):
        np.testing.assert_array_equal(
            ClickSession(array, blobs).click((140, 90)).mask, expected.mask
        )


def test_an_ome_zarr_is_opened_with_all_its_levels(blobs, tmp_path):
    import yaozarrs  # noqa: F401

    from unet_studio.axes import Axes
    from unet_studio.images.writers import write_labels

    labels = np.zeros((2100, 2200), np.uint16)
    labels[600:1500, 500:1600] = 200
    path = write_labels(labels, Axes("YX"), tmp_path / "big.ome.zarr")
    session = ClickSession(path, blobs)
    assert sorted(session.canvas.levels) == [1, 2, 4]
    found = session.click((1000, 1000))
    assert iou(found, labels > 0) > 0.97
    assert found.looks[-1].step > 1


def test_levels_of_another_shape_are_not_used(blobs):
    image = np.zeros((10, 200, 200), np.uint8)
    thinned, halves = np.zeros((5, 100, 100), np.uint8), np.zeros((10, 100, 100), np.uint8)
    session = ClickSession(image, blobs, axes="ZYX", levels=[thinned, halves])
    assert session.canvas.levels[2].array is halves
    assert len(session.canvas.levels) == 2


def test_nan_and_16_bit_and_float_images(blobs, three_disks):
    image, labels = three_disks
    for array in (
        image.astype(np.uint16) * 200,
        image.astype(np.float32) / 255 - 3,
        np.where(np.arange(240) > 200, np.nan, image.astype(np.float64)),
        ~image,
    ):
        found = ClickSession(array, blobs).click((140, 90))
        assert found.area > 0
    assert iou(ClickSession(image * 1.0, blobs).click((140, 90)), labels == 3) > 0.9


def test_an_image_of_one_pixel_can_be_clicked(blobs):
    assert ClickSession(np.zeros((1, 1), np.uint8), blobs).click((0, 0)).area == 1


def test_channels_that_are_not_there_are_refused(blobs, three_disks):
    for channels in ((1,), (), (0, 0, 0, 0)):
        with pytest.raises(AxesError, match="choose one to three"):
            ClickSession(three_disks[0], blobs, channels=channels)


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


# -- journal ------------------------------------------------------------------


def test_a_session_is_replayed_to_the_bit(random_network, tmp_path):
    from unet_studio import replay

    image = np.random.default_rng(5).integers(0, 255, (6, 120, 130)).astype(np.uint8)
    labels = np.zeros(image.shape, np.uint8)
    labels[3, 5:9, 5:9] = 250
    session = ClickSession(image, random_network, axes="ZYX", labels=labels.copy())
    session.click((2, 60.25, 70.5))
    session.click((2, 64, 75), positive=False)
    session.undo()
    session.redo()
    for _ in session.propagate(before=1, after=1):
        pass
    session.commit(policy="overwrite")
    session.start_from(session.labels, (3, 6, 6))
    session.scribble([(3, 8, 10), (3, 20, 30)])
    session.click((np.nan, 1, 1))
    session.commit()
    session.box((4, 10, 10), (4, 50, 50))
    session.commit(number=300)
    session.erase((3, 6, 6))
    session.reset()
    path = tmp_path / "session.jsonl"
    path.write_text(session.journal)
    again = replay(image, path, random_network, labels=labels.copy(), axes="ZYX")
    np.testing.assert_array_equal(again.labels, session.labels)
    assert again.labels.dtype == session.labels.dtype == np.uint16
    assert again.journal == session.journal


def test_a_journal_of_another_image_is_refused(random_network, tmp_path):
    from unet_studio import replay

    image = np.random.default_rng(5).integers(0, 255, (120, 130)).astype(np.uint8)
    session = ClickSession(image, random_network)
    session.click((60, 60))
    with pytest.raises(ClickError, match="another image"):
        replay(image[:100], session.journal, random_network)
    with pytest.raises(ClickError, match="Line 2 of the journal .* another result"):
        replay(image // 2 + np.arange(130, dtype=np.uint8), session.journal, random_network)
    moved = session.journal.replace('"device": "cpu"', '"device": "cuda:0"', 1)
    with pytest.raises(ClickError, match=r"result .* written on cuda:0, this is cpu\."):
        replay(image // 2 + np.arange(130, dtype=np.uint8), moved, random_network)
    with pytest.raises(ClickError, match="can not be read"):
        replay(image, tmp_path / "nothing.jsonl")
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(ClickError, match="not a journal"):
        replay(image, tmp_path / "bad.jsonl")


def test_F58_an_absent_gpu_is_said_and_journalled(random_network):
    image = np.zeros((80, 90), np.uint8)
    session = ClickSession(image, random_network.model, device="cuda:99")
    (said,) = session.notices
    assert "cuda:99 is not available" in said
    assert "the CPU is used instead" in said
    assert json.loads(session.journal.splitlines()[0])["device"] == "cpu"
    assert not ClickSession(image, random_network).notices


def test_F59_clicks_go_on_where_a_gpu_lacks_an_operation(monkeypatch, lacking_device):
    model = load_model("clicks")
    expected = ClickNetwork(model, "cpu")
    lacking = Model(model.card, lacking_device.OnlyOnCpus(model.network).eval())
    monkeypatch.setattr(devices, "open_devices", lambda *_: ([lacking_device.DEVICE], None))
    crops = [np.random.default_rng(0).random((6, 64, 64)).astype(np.float32)]
    network = ClickNetwork(lacking)
    session = ClickSession(read_sample("nuclei_fluorescence")[:128, :128], network)
    for _ in range(2):
        session.click((60, 80))
        (found,) = network(crops)
        np.testing.assert_allclose(found, expected(crops)[0], atol=1e-5)
    (said,) = session.notices
    assert "The meta can not run this network" in said
    assert "max_pool3d" in said
    assert "the CPU is used instead" in said
    lines = [json.loads(line) for line in session.journal.splitlines()]
    assert [line.get("device") for line in lines] == ["meta", "cpu", None]
    replay(session.canvas.volume, session.journal, lacking)
