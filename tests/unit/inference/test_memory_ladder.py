"""F53 to F57, F59: out of memory makes tiles smaller; nothing else does."""

import weakref

import numpy as np
import pytest
import torch
from torch import nn

from unet_studio.errors import RecipeError
from unet_studio.events import Warned
from unet_studio.inference import choice, predictor
from unet_studio.inference import executor as executor_module
from unet_studio.models.model import Model, load_model
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict
from unet_studio.recipe import Recipe

IMAGE = np.random.default_rng(0).integers(0, 4000, (700, 900)).astype(np.uint16)
OPTIONS = {"keep": "logits", "precision": "float32", "device": "cpu"}


class Short(nn.Module):
    """A network on a device whose memory holds so many pixels, N x Y x X."""

    attempts: list = []
    seen: list = []  # weak references to what it was given

    def __init__(self, network: nn.Module, pixels: int, error=None) -> None:
        super().__init__()
        self.network, self.pixels, self.stride = network, pixels, network.stride
        self.error = error or torch.OutOfMemoryError("no memory of the device is left")

    def forward(self, x):
        size = x.shape[0] * x.shape[2] * x.shape[3]
        if x.shape[-1] > 64:  # not the small trials
            Short.attempts.append(tuple(x.shape))
            Short.seen.append(weakref.ref(x))
            if size > self.pixels:
                raise self.error
        return self.network(x)


@pytest.fixture(scope="module")
def model():
    return new_model("unet-tiny", representation="objects")


@pytest.fixture(scope="module")
def expected(model):
    return predict(IMAGE, model, tiling={"tile": 2048}, **OPTIONS).probabilities


def short(model, pixels, error=None):
    Short.attempts, Short.seen = [], []
    return Model(model.card, Short(model.network, pixels, error).eval())


@pytest.mark.parametrize(
    ("pixels", "tile", "batch"),
    [
        pytest.param(300_000, 512, 4, id="batch-smaller"),
        pytest.param(150_000, 704, 1, id="tile-cut-once"),
        pytest.param(110_000, 512, 3, id="batch-then-tile"),
        pytest.param(70_000, 1024, 1, id="tile-cut-more"),
    ],
)
def test_F54_smaller_steps_give_the_same(model, expected, pixels, tile, batch):
    check_smaller_steps(IMAGE, model, expected, pixels, tile, batch)


def test_large_batches_and_then_tiles_become_smaller(model):
    image = IMAGE[:300, :360]  # small tiles are mostly halo: a whole image of them takes minutes
    expected = predict(image, model, tiling={"tile": 2048}, **OPTIONS).probabilities
    check_smaller_steps(image, model, expected, pixels=60_000, tile=256, batch=16)


def check_smaller_steps(image, model, expected, pixels, tile, batch):
    events = []
    result = predict(
        image,
        short(model, pixels),
        tiling={"tile": tile, "batch": batch},
        on_event=events.append,
        **OPTIONS,
    )
    difference = np.abs(result.probabilities - expected).max()
    assert difference <= 1e-5 * expected.std()
    said = [e.message for e in events if isinstance(e, Warned)]
    assert any("ran out of memory" in text for text in said)
    assert any("ran out of memory" in text for text in result.record["warnings"])
    assert Short.attempts[0] > Short.attempts[-1]


def test_the_choice_is_kept_for_the_tiles_that_follow(model):
    predict(IMAGE, short(model, 110_000), tiling={"tile": 512, "batch": 3}, **OPTIONS)
    too_large = [a for a in Short.attempts if a[0] * a[2] * a[3] > 110_000]
    assert 2 <= len(too_large) <= 4


def test_F55_what_never_fits_is_said_and_ends(model, fault_contract):
    with pytest.raises(RecipeError) as caught:
        predict(IMAGE, short(model, 10), tiling={"tile": 512, "batch": 4}, **OPTIONS)
    message = str(caught.value)
    del caught
    fault_contract.assert_fault_contract(message, "not enough memory.*smaller", gone=Short.seen)
    assert Short.seen
    assert len(Short.attempts) <= 7  # the first, two smaller batches, four smaller tiles


def test_another_error_is_not_taken_for_want_of_memory(model):
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1"):
        predict(IMAGE, short(model, 10, error), **OPTIONS)
    assert len(Short.attempts) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at alloc_cpu.cpp:118] data. DefaultCPUAllocator: not enough memory: you "
        "tried to allocate 9 bytes.",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 9 bytes. Error code 12 (Cannot allocate memory)",
        "CUDA error: out of memory",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "MPS backend out of memory (MPS allocated: 9.05 GB)",
    ],
)
def test_what_allocators_say_counts(model, expected, text):
    error = RuntimeError(text)
    result = predict(IMAGE, short(model, 150_000, error), tiling={"tile": 704}, **OPTIONS)
    assert np.abs(result.probabilities - expected).max() <= 1e-5 * expected.std()


def test_F57_a_failed_gpu_is_not_tried_again(model):
    error = RuntimeError("CUDA error: device-side assert triggered")
    with pytest.raises(RecipeError, match="restart"):
        predict(IMAGE, short(model, 10, error), **OPTIONS)
    assert len(Short.attempts) == 1


def test_F59_an_operation_that_a_gpu_lacks_is_done_by_the_cpu(
    model, expected, monkeypatch, lacking_device
):
    monkeypatch.setattr(predictor, "open_devices", lambda *_: ([lacking_device.DEVICE], None))
    lacking = Model(model.card, lacking_device.OnlyOnCpus(model.network).eval())
    result = predict(IMAGE, lacking, tiling={"tile": 512}, **OPTIONS)
    assert np.abs(result.probabilities - expected).max() <= 1e-5 * expected.std()
    (text,) = [t for t in result.warnings if "CPU" in t]
    assert "max_pool3d" in text
    assert "environment" not in text, "torch's advice is not for users"


def test_another_error_of_a_gpu_is_not_taken_for_a_lack(model, monkeypatch, lacking_device):
    monkeypatch.setattr(predictor, "open_devices", lambda *_: ([lacking_device.DEVICE], None))
    failing = lacking_device.OnlyOnCpus(
        model.network, RuntimeError("Placeholder storage has not been allocated")
    )
    with pytest.raises(RuntimeError, match="Placeholder"):
        predict(IMAGE, Model(model.card, failing.eval()), **OPTIONS)


def test_the_failed_attempts_tensors_are_gone_before_the_next(model, monkeypatch):
    """An exception that is still handled holds its frames, and these the tensors."""
    handled = []
    original = executor_module.Executor._make_smaller

    def look(self, group):
        import sys

        handled.append(sys.exc_info()[0])
        return original(self, group)

    monkeypatch.setattr(executor_module.Executor, "_make_smaller", look)
    predict(IMAGE, short(model, 150_000), tiling={"tile": 704}, **OPTIONS)
    assert handled
    assert set(handled) == {None}


def test_the_network_of_the_model_stays_as_it_was(model):
    before = {n: t.clone() for n, t in model.network.state_dict().items()}
    predict(IMAGE, model, precision="bfloat16")
    after = model.network.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert not any(m._forward_pre_hooks for m in model.network.modules())


def test_pieces_of_a_tile_see_all_there_is_to_see():
    """A plan that is content with a small halo counted on seams between tiles alone."""
    nuclei = load_model("nuclei")
    options = {**OPTIONS, "tiling": {"quality": "fast"}}
    expected = predict(IMAGE, nuclei, **options)
    assert expected.record["tiles"]["halo"] < nuclei.card.halo
    found = predict(IMAGE, short(nuclei, 400_000), **options)
    assert any("ran out of memory" in text for text in found.warnings)
    difference = np.abs(found.probabilities - expected.probabilities).max()
    assert difference <= 1e-5 * expected.probabilities.std()


def test_no_memory_for_the_trial_of_precisions(model, monkeypatch, tmp_path):
    def fail(*_):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path))
    monkeypatch.setattr(choice, "try_out", fail)
    chosen = choice.choose(model, torch.device("cpu"), Recipe(model="-"), 10**9)
    assert (chosen.backend, chosen.precision) == ("torch", "float32")
    assert not list(tmp_path.iterdir()), "that is not remembered"
