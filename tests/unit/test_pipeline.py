"""The whole path from Python: axes in, labels out, events, cancel, records, re-runs."""

import json
import threading

import dask.array as da
import numpy as np
import pytest
import zarr

from unet_studio import load_model, predict, segment
from unet_studio.axes import AmbiguousAxes, rearrange
from unet_studio.errors import Cancelled, ImageError, ModelError, RecipeError
from unet_studio.events import CancelToken, Started, TileDone, Warned
from unet_studio.images.volume import as_volume
from unet_studio.models.presets import new_model
from unet_studio.pipeline import relabel, segment_steps
from unet_studio.recipe import ObjectsMethod, Recipe
from unet_studio.samples import read_sample, sample_path


@pytest.fixture(scope="module")
def tiny():
    return new_model("unet-tiny", representation="objects")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (120, 100)).astype(np.uint8)


def test_the_bundled_model_finds_nuclei():
    result = segment(sample_path("nuclei_fluorescence"))
    assert result.object_count > 5
    assert result.labels.max() == result.object_count
    assert len(result.measurements["label"]) == result.object_count
    assert set(np.unique(result.labels)) == set(range(result.object_count + 1))


def test_the_bundled_model_finds_membranes_and_mitochondria():
    """Of the sample, 9 % was drawn as mitochondria; membranes are dark, the rest is not."""
    image = read_sample("membranes_em")
    labels = segment(sample_path("membranes_em"), "em-membranes").labels
    assert set(np.unique(labels)) == {0, 1, 2}
    assert 0.05 < (labels == 2).mean() < 0.15
    assert 0.1 < (labels == 1).mean() < 0.35
    assert image[labels == 1].mean() < image[labels == 2].mean() < image[labels == 0].mean()


@pytest.mark.parametrize("make", [np.asarray, lambda a: da.from_array(a, (50, 33)), zarr.array])
def test_numpy_dask_and_zarr_give_the_same(make, tiny, image):
    result = segment(make(image), tiny)
    np.testing.assert_array_equal(result.labels, segment(image, tiny).labels)


@pytest.mark.parametrize("order", ["TZYX", "XYZT", "ZTXY", "YXTZ"])
def test_P10_labels_come_back_in_the_order_of_the_image(order, tiny):
    movie = np.random.default_rng(1).integers(0, 255, (2, 3, 40, 50)).astype(np.uint8)
    reference = segment(movie, tiny, axes="TZYX")
    result = segment(rearrange(movie, "TZYX", order), tiny, axes=order)
    assert result.axes.names == order
    np.testing.assert_array_equal(rearrange(result.labels, order, "TZYX"), reference.labels)


def test_ambiguous_axes_are_asked(tiny):
    with pytest.raises(AmbiguousAxes) as caught:
        segment(np.zeros((5, 40, 40), np.uint8), tiny)
    assert "ZYX" in caught.value.candidates
    assert "TYX" in caught.value.candidates


def test_events_come_in_order(tiny, image):
    seen = []
    segment(image, tiny, on_event=seen.append, tiling={"tile": 208})
    stages = [e.stage for e in seen if isinstance(e, Started)]
    assert stages == ["measuring intensities", "predicting", "making objects"]
    tiles = [e for e in seen if isinstance(e, TileDone)]
    assert [t.done for t in tiles] == list(range(1, tiles[0].total + 1))
    assert not any(isinstance(e, Warned) for e in seen)


def test_cancel_between_tiles(tiny):
    image = np.random.default_rng(0).random((700, 700))
    token = CancelToken()
    steps = segment_steps(as_volume(image), Recipe(model="-", tiling={"tile": 304}), model=tiny,
                          token=token)  # fmt: skip
    tiles = 0
    with pytest.raises(Cancelled):
        for event in steps:
            if isinstance(event, TileDone):
                tiles += 1
                token.cancel()
    assert tiles == 1


def test_cancel_within_a_tile(tiny):
    """One huge tile must not hold a cancel up until it is done."""
    token = CancelToken()
    entered = []
    network = tiny.network

    def stop(_module, _inputs, output):
        if output.shape[-1] == 128:  # not the small trial of the folded network
            entered.append(1)
            token.cancel()

    hook = network.down[1].register_forward_hook(stop)
    image = np.random.default_rng(0).random((256, 256))
    try:
        with pytest.raises(Cancelled):
            segment(image, tiny, token=token, precision="float32")
    finally:
        hook.remove()
    assert entered == [1]
    leftovers = [m for m in network.modules() if m._forward_pre_hooks]
    assert leftovers == []
    segment(np.random.default_rng(0).random((64, 64)), tiny)  # the network still works


def test_an_options_change_needs_no_network(tiny, image):
    result = segment(image, tiny)
    method = ObjectsMethod(method="watershed", options={"threshold": 0.3, "min_size": 0})
    again = relabel(result.prediction, method)
    direct = segment(image, tiny, objects=method.model_dump())
    np.testing.assert_array_equal(again.labels, direct.labels)
    assert again.record["objects"] == direct.record["objects"]


def test_the_record_is_json_and_complete():
    result = segment(sample_path("nuclei_fluorescence"))
    record = json.loads(json.dumps(result.record))
    assert record["model"]["name"] == "nuclei"
    assert len(record["model"]["sha256"]) == 64
    assert record["recipe"]["model"] == "nuclei"
    own = load_model("nuclei").card.default_objects.options
    assert own.items() <= record["objects"]["options"].items()
    assert record["objects"]["options"]["min_size"] == 15, "defaults are written out, too"
    assert record["tiles"]["exact"] is True
    assert set(record["seconds"]) == {"predict", "objects"}
    assert "torch" in record["versions"]


def test_the_record_of_relabelling_replays_too():
    path = sample_path("nuclei_fluorescence")
    result = relabel(predict(path), ObjectsMethod(method="components", options={"min_size": 40}))
    recipe = Recipe.model_validate(result.record["recipe"])
    again = segment(path, **recipe.model_dump(exclude={"version"}))
    np.testing.assert_array_equal(again.labels, result.labels)


def test_logits_are_not_taken_for_probabilities(tiny, image):
    with pytest.raises(RecipeError, match='holds logits.*keep="probabilities"'):
        relabel(predict(image, tiny, keep="logits"))
    with pytest.raises(RecipeError, match="keep is 'logit'"):
        predict(image, tiny, keep="logit")


def test_a_record_replays_to_the_same_labels():
    path = sample_path("nuclei_fluorescence")
    result = segment(path, objects={"method": "watershed", "options": {"split_depth": 0.3}})
    recipe = Recipe.model_validate(result.record["recipe"])
    again = segment(path, **recipe.model_dump(exclude={"version"}))
    np.testing.assert_array_equal(again.labels, result.labels)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"model": "no-such-model"}, ModelError, "no model called"),
        ({"device": "warp"}, RecipeError, "no device called 'warp'"),
        ({"objects": {"method": "magic"}}, RecipeError, "no objects method called 'magic'"),
        (
            {"objects": {"method": "watershed", "options": {"x": 1}}},
            RecipeError,
            "no option 'x'",
        ),
        ({"nonsense": 1}, RecipeError, "nonsense"),
        ({"normalisation": {"method": "magic"}}, RecipeError, "no normaliser called 'magic'"),
        ({"normalisation": {"method": "zscore", "options": {"foo": 1}}}, RecipeError, "foo"),
        (
            {"normalisation": {"method": "percentile", "options": {"low": -3}}},
            RecipeError,
            "percentile",
        ),
    ],
)
def test_wrong_settings_are_explained(kwargs, error, message, image):
    with pytest.raises(error, match=message):
        segment(image, **kwargs)


def test_F58_absent_gpu_falls_back_with_a_notice(tiny, image, monkeypatch):
    """F58."""
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    result = segment(image, tiny, device="cuda:3")
    assert "the CPU is used instead" in result.warnings[0]
    assert result.record["device"] == "cpu"


def test_out_of_memory_is_explained(tiny, image, monkeypatch):
    import torch

    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = tiny.network.register_forward_pre_hook(exhausted)
    try:
        with pytest.raises(RecipeError, match="not enough memory .* after tiles of 128") as caught:
            segment(image, tiny)
        # The original would keep the tile's tensors alive (K4).
        assert caught.value.__context__ is None
    finally:
        hook.remove()


def test_other_runtime_errors_are_not_taken_for_memory(tiny, image):
    def broken(*_):
        raise RuntimeError("something else")

    hook = tiny.network.register_forward_pre_hook(broken)
    try:
        with pytest.raises(RuntimeError, match="something else"):
            segment(image, tiny)
    finally:
        hook.remove()


def test_unreadable_blocks_name_the_place(tiny):
    def explode(block, block_info=None):
        if block_info and block_info[0]["chunk-location"] == (1, 0):
            raise OSError("disk on fire")
        return block

    lazy = da.zeros((300, 60), chunks=(150, 60), dtype=np.uint8).map_blocks(
        explode, dtype=np.uint8
    )
    with pytest.raises(ImageError, match="disk on fire"):
        segment(lazy, tiny)


def test_P12_statistics_come_from_the_volume_not_the_tile(tiny):
    """P12: however an image is cut, its intensities are scaled alike."""
    image = np.random.default_rng(0).integers(0, 255, (500, 500)).astype(np.uint8)
    image[:250] //= 10
    cut = predict(image, tiny, tiling={"tile": 304})
    lazy = predict(da.from_array(image, (64, 64)), tiny)
    assert cut.record["scaling"] == lazy.record["scaling"]
    np.testing.assert_array_equal(cut.probabilities, lazy.probabilities)


def test_a_chunk_is_computed_once_for_all_tiles_that_touch_it(tiny):
    image = np.random.default_rng(3).integers(0, 255, (512, 512), dtype=np.uint8)
    times, lock = np.zeros((8, 8), int), threading.Lock()

    def computed(block, block_info=None):
        with lock:
            times[tuple(block_info[0]["chunk-location"])] += 1
        return block

    lazy = da.from_array(image, chunks=64).map_blocks(computed, dtype=np.uint8, meta=image[:0, :0])
    options = {"tiling": {"tile": 304}, "device": "cpu"}
    found = predict(lazy, tiny, axes="YX", **options)
    assert found.record["tiles"]["count"] >= 9
    assert (times == 1).all()  # to measure intensities, too
    np.testing.assert_array_equal(
        found.probabilities, predict(image, tiny, axes="YX", **options).probabilities
    )


def test_large_volumes_are_sampled_evenly_and_alike():
    from unet_studio.images import sampling

    rng = np.random.default_rng(0)
    image = rng.normal(1000, 50, (5000, 4000)).astype(np.float32)
    image[:2500] += 300
    sample = sampling.sample_volume(as_volume(image), (0,), lambda block: block)
    assert sample.shape[1] < image.size / 2
    for percentile in (0.5, 50, 99.9):
        expected = np.percentile(image[::7, ::7], percentile)
        assert np.percentile(sample, percentile) == pytest.approx(expected, abs=15)
