"""Images that do not fit into memory: through the disk, with the same labels."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr

from unet_studio import as_volume, read_image, segment, segment_to_zarr
from unet_studio import streaming as streaming_module
from unet_studio.errors import Cancelled, OutputError, RecipeError
from unet_studio.events import CancelToken, TileDone, Warned, drain
from unet_studio.images.zarr_marker import MARKER, is_complete
from unet_studio.models.presets import new_model

OPTIONS = {"device": "cpu", "precision": "float32", "tiling": {"tile": 512}}


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("YX", (430, 610)), ("ZYX", (4, 200, 240)), ("TYX", (3, 200, 240))],
)
def test_labels_and_table_are_those_in_memory(tmp_path, small_blocks, axes, shape, field):
    image = field(shape)
    expected = segment(image, axes=axes, **OPTIONS)
    target = tmp_path / "cells_labels.ome.zarr"
    result = segment_to_zarr(image, target, axes=axes, **OPTIONS)
    assert expected.object_count > 20
    assert result.object_count == expected.object_count
    np.testing.assert_array_equal(np.asarray(result.labels[:]), expected.labels)
    assert result.labels.dtype == expected.labels.dtype
    assert list(result.measurements) == list(expected.measurements)
    for name, column in expected.measurements.items():
        np.testing.assert_allclose(result.measurements[name], column, err_msg=name)
    for part in ("recipe", "model", "image", "scaling", "tiles", "precision"):
        assert result.record[part] == expected.record[part], part
    assert is_complete(target)
    np.testing.assert_array_equal(read_image(target).read().squeeze(), expected.labels)
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


def test_a_network_of_three_dimensions(tmp_path, small_blocks, field):
    image = field((18, 60, 76))
    options = {**OPTIONS, "tiling": {"tile": 64}}
    model = new_model("unet-tiny", ndim=3, representation="objects", options={"widths": (4, 8)})
    expected = segment(image, model, axes="ZYX", **options)
    result = segment_to_zarr(image, tmp_path / "l.ome.zarr", model, axes="ZYX", **options)
    np.testing.assert_array_equal(np.asarray(result.labels[:]), expected.labels)


@pytest.mark.parametrize("axes", ["YX", "TYX"])
@pytest.mark.parametrize("method", ["argmax", "components"])
def test_classes_are_measured_too(tmp_path, small_blocks, axes, method, field):
    image = field((2, 200, 240) if axes == "TYX" else (200, 240))
    model = new_model("unet-tiny", representation="classes", classes=("ground", "a", "b"))
    options = {**OPTIONS, "objects": {"method": method}}
    expected = segment(image, model, axes=axes, **options)
    result = segment_to_zarr(image, tmp_path / "l.ome.zarr", model, axes=axes, **options)
    np.testing.assert_array_equal(np.asarray(result.labels[:]), expected.labels)
    assert len(expected.measurements["label"]) > 0
    for name, column in expected.measurements.items():
        np.testing.assert_allclose(result.measurements[name], column, err_msg=name)
    assert result.object_count == expected.object_count


@pytest.mark.parametrize(("axes", "copied"), [("YX", 0), ("TYX", 0), ("ZYX", 1)])
def test_classes_of_planes_are_packed_once(
    tmp_path, small_blocks, monkeypatch, axes, copied, field
):
    """They are decided into what becomes the result; a stack's chunks are no planes."""
    from unet_studio.images import ome_zarr

    levels, write_level = [], ome_zarr.write_level

    def counted(stored, *rest):
        levels.append(stored.path)
        write_level(stored, *rest)

    monkeypatch.setattr(ome_zarr, "write_level", counted)
    monkeypatch.setattr(ome_zarr, "_SMALLEST_LEVEL", 100)
    image = field((200, 240) if axes == "YX" else (3, 200, 240))
    options = {**OPTIONS, "axes": axes, "objects": {"method": "threshold"}}
    expected = segment(image, **options)
    result = segment_to_zarr(image, tmp_path / "l.ome.zarr", **options)
    np.testing.assert_array_equal(np.asarray(result.labels[:]), expected.labels)
    assert expected.labels.any()
    assert (levels.count("0"), levels.count("1")) == (copied, 1)
    finest = zarr.open_array(str(result.path / "0"), mode="r")
    assert finest.nchunks_initialized == finest.nchunks, "background, too"
    assert is_complete(result.path)
    assert [f.name for f in tmp_path.iterdir()] == ["l.ome.zarr"]


@pytest.mark.parametrize("method", ["watershed", "threshold"])
def test_nothing_to_find_is_a_result_too(tmp_path, method):
    image = np.full((100, 120), 7, np.uint8)
    options = {**OPTIONS, "objects": {"method": method}}
    result = segment_to_zarr(image, tmp_path / "l.ome.zarr", **options)
    assert is_complete(result.path)
    assert result.labels.nchunks_initialized == result.labels.nchunks
    assert result.object_count == 0
    assert not np.asarray(result.labels[:]).any()
    assert any("constant" in w for w in result.warnings)
    assert len(result.measurements["label"]) == 0


def test_zarr_in_and_probabilities_out(tmp_path, small_blocks, field):
    source = zarr.create_array(str(tmp_path / "in.zarr"), shape=(300, 400), dtype="u2",
                               chunks=(64, 64))  # fmt: skip
    source[:] = field((300, 400)).astype(np.uint16) * 100
    volume = as_volume(source, "YX")
    recipe = streaming_module.prepare(volume, "nuclei", None, dict(OPTIONS))[1]
    kept = tmp_path / "p.ome.zarr"
    steps = streaming_module.segment_to_zarr_steps(
        volume, recipe, tmp_path / "l.ome.zarr", probabilities=kept
    )
    result = drain(steps)
    expected = segment(volume, **OPTIONS)
    np.testing.assert_array_equal(np.asarray(result.labels[:]), expected.labels)
    stored = read_image(kept).read()
    np.testing.assert_array_equal(stored, expected.prediction.probabilities)
    assert is_complete(kept)


def test_a_pyramid_of_labels_keeps_ids_and_places(tmp_path, field):
    image = field((300, 1500))
    result = segment_to_zarr(image, tmp_path / "l.ome.zarr", **OPTIONS)
    finest = np.asarray(result.labels[:])
    coarse = zarr.open_array(str(tmp_path / "l.ome.zarr" / "1"), mode="r")
    np.testing.assert_array_equal(np.asarray(coarse[:]), finest[::2, ::2])
    second = read_image(tmp_path / "l.ome.zarr", level=1)
    assert tuple(second.axes.scale) == (2.0, 2.0)


def test_cancel_leaves_nothing_behind(tmp_path, small_blocks, field):
    token = CancelToken()

    def stop(event):
        if isinstance(event, TileDone):
            token.cancel()

    with pytest.raises(Cancelled):
        segment_to_zarr(
            field((430, 610)), tmp_path / "l.ome.zarr", on_event=stop, token=token,
            **{**OPTIONS, "tiling": {"tile": 304}},
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_is_never_replaced(tmp_path, field):
    target = tmp_path / "precious.zarr"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not written by this program"):
        segment_to_zarr(field((64, 64)), target, **OPTIONS)
    assert (target / "notes.txt").read_text() == "mine"


def test_an_older_result_stays_until_the_new_one_is_complete(tmp_path, monkeypatch, field):
    target = tmp_path / "l.ome.zarr"
    first = segment_to_zarr(field((200, 200)), target, **OPTIONS)
    before = np.asarray(first.labels[:])

    def fail(*_args, **_kwargs):
        raise OutputError("the disk is full")

    monkeypatch.setattr("unet_studio.streaming_results.write_chunked", fail)
    with pytest.raises(OutputError, match="full"):
        segment_to_zarr(field((200, 200), seed=1), target, **OPTIONS)
    assert is_complete(target)
    np.testing.assert_array_equal(np.asarray(zarr.open_array(str(target / "0"))[:]), before)


SCRIPT = """
import sys, numpy as np
from unet_studio import segment_to_zarr
image = np.random.default_rng(0).integers(0, 255, (1500, 1500)).astype(np.uint8)
def tell(event): print(type(event).__name__, flush=True)
segment_to_zarr(image, sys.argv[1], "random:unet-tiny?representation=objects", device="cpu",
                precision="float32", tiling={"tile": 304}, on_event=tell)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize(
    "events", [3, 20, *(pytest.param(n, marks=pytest.mark.slow) for n in range(5, 40, 2))]
)
def test_P18_a_killed_run_leaves_no_result_that_looks_complete(tmp_path, events):
    target = tmp_path / "l.ome.zarr"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(target)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(events):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not target.exists()
    from unet_studio.images.leftovers import remove_leftovers

    time.sleep(0.1)
    assert remove_leftovers(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_P18_the_marker_lists_what_there_is(tmp_path, field):
    target = tmp_path / "l.ome.zarr"
    segment_to_zarr(field((200, 200)), target, **OPTIONS)
    assert MARKER in zarr.open_group(str(target), mode="r").attrs
    assert is_complete(target)
    chunk = next(p for p in (target / "0").rglob("*") if p.is_file() and p.name != "zarr.json")
    chunk.unlink()
    assert not is_complete(target)


@pytest.mark.parametrize(
    ("axes", "objects", "message"),
    [
        ("TYX", {"method": "watershed", "link": {}, "options": {"depth": 3}}, "depth"),
        ("YX", {"method": "argmax"}, "can not be used"),
        ("YX", {"method": "watershed", "options": {"depth": 3}}, "depth"),
    ],
)
def test_what_can_not_be_done_is_said_before_the_work(tmp_path, axes, objects, message, field):
    events = []
    image = field((2, 64, 64) if axes == "TYX" else (64, 64))
    with pytest.raises(RecipeError, match=message):
        segment_to_zarr(
            image, tmp_path / "l.ome.zarr", axes=axes, objects=objects, on_event=events.append
        )
    assert not [e for e in events if isinstance(e, TileDone)]
    assert not list(tmp_path.iterdir())


def test_linking_without_time_is_left_out_with_a_warning(tmp_path, field):
    objects = {"method": "watershed", "link": {}}
    result = segment_to_zarr(
        field((200, 240)), tmp_path / "l.ome.zarr", axes="YX", objects=objects, **OPTIONS
    )
    assert any("not linked" in text for text in result.warnings)
    assert result.record["recipe"]["objects"]["link"] is None


@pytest.fixture
def film(field):
    """The discs of ``field``, drifting; one frame is empty in its left half. Axes TYX."""
    image = field((200, 240))
    movie = np.stack([np.roll(image, 3 * t, axis=1) for t in range(4)])
    movie[1, :, :120] = 30
    return movie


@pytest.mark.parametrize("max_gap", [0, 1])
def test_linked_objects_are_those_in_memory(tmp_path, small_blocks, max_gap, film):
    objects = {"method": "watershed", "link": {"max_gap": max_gap}}
    expected = segment(film, axes="TYX", objects=objects, **OPTIONS)
    target = tmp_path / "film_labels.ome.zarr"
    result = segment_to_zarr(film, target, axes="TYX", objects=objects, **OPTIONS)
    np.testing.assert_array_equal(np.asarray(result.labels[:]), expected.labels)
    assert result.object_count == expected.object_count
    for table in ("measurements", "tracks", "features"):
        theirs = getattr(expected, table)
        assert list(getattr(result, table)) == list(theirs)
        for name, column in theirs.items():
            np.testing.assert_allclose(getattr(result, table)[name], column, err_msg=name)
    assert result.record["objects"] == expected.record["objects"]
    assert result.record["recipe"] == expected.record["recipe"]
    bridged = result.record["objects"]["tracks"]["bridged_frames"]
    assert (bridged > 3) == (max_gap == 1)
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


def test_cancel_while_linking_leaves_nothing_behind(tmp_path, small_blocks, monkeypatch, film):
    from unet_studio.objects import linking

    token, original = CancelToken(), linking.Linker.link

    def link(self, frame, count, check):
        token.cancel()
        return original(self, frame, count, check)

    monkeypatch.setattr(linking.Linker, "link", link)
    with pytest.raises(Cancelled):
        segment_to_zarr(
            film, tmp_path / "l.ome.zarr", axes="TYX", token=token,
            objects={"method": "watershed", "link": {}}, **OPTIONS,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bytes_free", "keep", "warned"),
    [
        (1, False, False),  # the device decides on classes: one byte per pixel
        (0.9, False, True),
        (7, True, True),  # two probabilities of two bytes, and labels of four
        (8, True, False),
    ],
)
def test_the_disk_is_said_to_be_short_only_where_it_may_be(
    tmp_path, monkeypatch, bytes_free, keep, warned, field
):
    image = field((200, 240))
    usage = shutil.disk_usage(tmp_path)._replace(free=int(image.size * bytes_free))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    model = new_model("unet-tiny", representation="classes")
    volume, recipe, model = streaming_module.prepare(image, model, "YX", dict(OPTIONS))
    events = streaming_module.segment_to_zarr_steps(
        volume, recipe, tmp_path / "l.ome.zarr", model=model,
        probabilities=tmp_path / "p.ome.zarr" if keep else None,
    )  # fmt: skip
    assert warned == any(isinstance(e, Warned) and "free" in e.message for e in events)
