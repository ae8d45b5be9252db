"""A large frame in memory is labelled block by block: same objects, and it can be stopped."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unet_studio.axes import Axes
from unet_studio.errors import Cancelled, OutputError
from unet_studio.events import drain
from unet_studio.images.volume import as_volume
from unet_studio.inference.prediction import Prediction
from unet_studio.models.card import ModelCard
from unet_studio.objects import frames as frames_module
from unet_studio.objects.cleaning import scan_order
from unet_studio.objects.frames import block_of, parts_of
from unet_studio.objects.grid import Grid
from unet_studio.objects.linking import Linker
from unet_studio.objects.measurements import measure
from unet_studio.objects.run import run_objects, run_objects_steps
from unet_studio.objects.streamed import make_objects
from unet_studio.pipeline import relabel
from unet_studio.recipe import Linking, ObjectsMethod

SHAPES = {"CYX": (60, 75), "CZYX": (9, 30, 34), "TCYX": (4, 48, 52), "TCZYX": (3, 7, 24, 26)}
METHODS = {
    "watershed": ("objects", {"smoothing": 0.8, "min_size": 4, "min_confidence": 0.1}),
    "components": ("binary", {"min_size": 3}),
    "threshold": ("binary", {"min_size": 6, "fill_holes": True}),
    "argmax": ("classes", {}),
}


def noise(axes, representation, seed):
    """Clumps of all sizes in every channel; what moves in time does so smoothly."""
    random = np.random.default_rng(seed)
    shape = SHAPES[axes]
    blur = [1.5] * len(shape)
    channels = []
    for _ in range(1 if representation == "binary" else 3):
        field = ndimage.gaussian_filter(random.standard_normal(shape), blur)
        field -= np.quantile(field, 0.02)
        channels.append(np.clip(field / np.quantile(field, 0.98), 0, 1))
    stacked = np.stack(channels, axis=1 if axes[0] == "T" else 0).astype(np.float16)
    card = ModelCard(
        name="noise", architecture="unet", in_channels=1, representation=representation,
        classes=("a", "b", "c") if representation == "classes" else (),
    )  # fmt: skip
    info = as_volume(np.zeros(shape, np.uint8), axes.replace("C", "")).info
    return Prediction(stacked, Axes(axes), card, info, {})


def both_ways(monkeypatch, prediction, method):
    """Return the result at once and in small blocks, each with its table."""
    results = []
    for pixels in (2**21, 400):
        monkeypatch.setattr(frames_module, "BLOCK_PIXELS", pixels)
        made = run_objects(prediction, method)
        results.append((made, measure(made.labels, made.axes, counted=made.counted)))
    return results


def assert_alike(whole, blocks):
    (one, table), (other, counted) = whole, blocks
    assert one.labels.dtype == other.labels.dtype
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.count == other.count
    assert list(table) == list(counted)
    for name, column in table.items():
        np.testing.assert_array_equal(counted[name], column, err_msg=name)
    if one.tracks is not None:
        for name, column in one.tracks.columns().items():
            np.testing.assert_array_equal(other.tracks.columns()[name], column, err_msg=name)


@pytest.mark.parametrize("axes", SHAPES)
@pytest.mark.parametrize("name", METHODS)
def test_blocks_change_nothing(monkeypatch, axes, name):
    representation, options = METHODS[name]
    prediction = noise(axes, representation, 1)
    whole, blocks = both_ways(monkeypatch, prediction, ObjectsMethod(method=name, options=options))
    assert whole[0].count > 1 or name == "threshold"
    objects = whole[0].makes_objects
    assert all((c is not None) is objects for c in blocks[0].counted), "no blocks were made"
    assert_alike(whole, blocks)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 2), st.sampled_from(["TCYX", "TCZYX"]))
def test_linked_movies_too(seed, max_gap, axes):
    with pytest.MonkeyPatch.context() as patch:
        link = Linking(max_gap=max_gap)
        method = ObjectsMethod(method="components", options={"min_size": 3}, link=link)
        whole, blocks = both_ways(patch, noise(axes, "binary", seed), method)
        assert_alike(whole, blocks)
        plain = measure(blocks[0].labels, blocks[0].axes)
        for name, column in plain.items():
            np.testing.assert_array_equal(blocks[1][name], column, err_msg=name)


def from_disk(prediction, method, block, **more):
    """Label a prediction as a run through the disk does; stores are in memory here."""
    import zarr
    from zarr.storage import MemoryStore

    def store(values):
        edges = [min(n, 32) for n in values.shape]
        made = zarr.create_array(
            MemoryStore(), shape=values.shape, chunks=edges, dtype=values.dtype
        )
        made[...] = values
        return made

    timed = prediction.axes.names[0] == "T"
    labels = np.zeros(np.delete(prediction.probabilities.shape, 1 if timed else 0), np.uint32)
    output, known = store(labels), store(labels[0]) if method.link else None
    kept = dataclasses.replace(prediction, probabilities=store(prediction.probabilities))
    steps = make_objects(kept, method, output, known, block=block, measure=True, **more)
    return drain(steps), np.asarray(output[...])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 2), st.sampled_from([(13, 20), (48, 52)]))
def test_linking_on_the_disk_is_that_in_memory(seed, max_gap, block):
    prediction = noise("TCYX", "binary", seed)
    method = ObjectsMethod(method="components", link=Linking(max_gap=max_gap))
    expected = run_objects(prediction, method)
    made, labels = from_disk(prediction, expected.method, block, check=lambda: None)
    np.testing.assert_array_equal(labels, expected.labels)
    assert made.count == expected.count
    for name, column in expected.tracks.columns().items():
        np.testing.assert_array_equal(made.tracks.columns()[name], column, err_msg=name)
    table = measure(expected.labels, expected.axes)
    for name, column in table.items():
        joined = np.concatenate([t[name] for t in made.tables])
        np.testing.assert_array_equal(joined, column, err_msg=name)


def test_linking_on_the_disk_reads_no_more_than_a_block_at_a_time():
    class Watched:
        """An array that notes the largest part that was asked for."""

        largest = 0

        def __init__(self, array):
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def __getitem__(self, key):
            part = self.array[key]
            Watched.largest = max(Watched.largest, part.size)
            return part

        def __setitem__(self, key, value):
            self.array[key] = value

    frames = [np.kron(np.eye(8, dtype=np.uint32), np.ones((5, 5), np.uint32)) for _ in range(4)]
    grid = Grid((40, 40), (10, 16))
    linker = Linker(
        Linking(max_gap=2),
        Watched(np.zeros((40, 40), np.uint32)),
        [grid.bounds(n) for n in range(grid.size)],
    )
    for frame in frames:
        labels, count = scan_order(frame * np.arange(1, 41, dtype=np.uint32)[:, None])
        linker.link(Watched(labels), count)
    assert 0 < Watched.largest <= 160


def test_ids_that_the_array_does_not_hold_are_refused():
    linker = Linker(Linking(), np.zeros((20, 20), np.int32), [(slice(0, 20), slice(0, 20))])
    labels = np.arange(400).reshape(20, 20).astype(np.uint8)
    with pytest.raises(OutputError, match="399 objects"):
        linker.link(labels, 399)


def test_a_piece_as_large_as_the_frame_is_looked_at_as_a_whole(monkeypatch):
    prediction = noise("CYX", "objects", 0)
    prediction.probabilities[0] = 1
    whole, blocks = both_ways(monkeypatch, prediction, ObjectsMethod(method="watershed"))
    assert_alike(whole, blocks)
    assert not blocks[0].warnings


@pytest.mark.parametrize("at", [0, 3, 11])
def test_a_run_stops_between_blocks(monkeypatch, at):
    monkeypatch.setattr(frames_module, "BLOCK_PIXELS", 400)
    steps, stopped = [], []

    def check():
        if len(steps) > at:
            stopped.append(True)
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        for step in run_objects_steps(noise("CYX", "objects", 0), check=check):
            assert not stopped
            steps.append(step)
    assert len(steps) == at + 1
    assert steps[-1][0] < steps[-1][1]


def test_progress_grows_to_its_end(monkeypatch):
    monkeypatch.setattr(frames_module, "BLOCK_PIXELS", 400)
    steps = list(run_objects_steps(noise("TCYX", "objects", 0)))
    shares = [done / total for done, total in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(set(shares)) > 20


def test_measuring_a_long_movie_can_be_stopped(monkeypatch):
    prediction = noise("TCYX", "binary", 0)
    made = relabel(prediction)

    def check():
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        measure(made.labels, made.axes, check=check)


def test_measuring_classes_on_the_disk_can_be_stopped():
    block, asked = (20, 20), []
    labelled = Grid(SHAPES["CYX"], block).size  # asked before each block; then it measures

    def check():
        asked.append(1)
        if len(asked) > labelled:
            raise Cancelled("stop")

    method = ObjectsMethod(method="argmax", options={"min_probability": 0.0})
    with pytest.raises(Cancelled):
        from_disk(noise("CYX", "classes", 0), method, block, check=check)


@pytest.mark.parametrize("shape", [(4096, 4096), (128, 512, 512), (5, 9000, 300), (1, 1), (0, 7)])
def test_parts_cover_a_frame_once(shape):
    block = block_of(shape)
    assert math.prod(block) <= frames_module.BLOCK_PIXELS
    parts = parts_of(shape)
    covered = sum(math.prod(s.stop - s.start for s in part) for part in parts)
    assert covered == math.prod(shape)
    assert len(set(map(str, parts))) == len(parts)


@pytest.mark.parametrize("method", ["threshold", "components"])
def test_the_largest_piece_of_a_frame_larger_than_a_block_is_kept(method, monkeypatch):
    monkeypatch.setattr(frames_module, "BLOCK_PIXELS", 1000)
    probabilities = np.zeros((1, 60, 75), np.float32)
    probabilities[0, 5:20, 5:70] = probabilities[0, 40:50, 10:20] = 0.9
    card = ModelCard(
        name="two", architecture="unet", in_channels=1, representation="binary", classes=("a",)
    )
    info = as_volume(np.zeros((60, 75), np.uint8), "YX").info
    prediction = Prediction(probabilities, Axes("CYX"), card, info, {})
    chosen = ObjectsMethod(method=method, options={"keep_largest": True})
    labels = run_objects(prediction, chosen).labels
    assert labels[10, 30] > 0
    assert not labels[40:50, 10:20].any()
