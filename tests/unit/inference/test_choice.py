"""What runs a network: whatever measures fastest and says the same."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from unet_studio.errors import BackendError, Cancelled, RecipeError
from unet_studio.events import CancelToken, Started
from unet_studio.images.volume import as_volume
from unet_studio.inference import choice
from unet_studio.inference import trials as trials_module
from unet_studio.inference.choice import Numerics, Trial, candidates, decide, reason
from unet_studio.inference.plan import resolve
from unet_studio.models.model import Model
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict
from unet_studio.recipe import Recipe

IMAGE = np.random.default_rng(0).integers(0, 4000, (150, 170)).astype(np.uint16)
TORCH, OPENVINO = Numerics("torch"), Numerics("openvino")
HALF = Numerics("torch", "bfloat16")
MANY = 10**8


@pytest.fixture(scope="module")
def model():
    return new_model("unet-tiny", representation="objects")


def trials(**ways):
    """Trials of float32 in torch at 1 s for 10^6 pixels, and of others as given."""
    names = {"openvino": str(OPENVINO), "half": str(HALF)}
    found = {str(TORCH): Trial(1e-6, 0.0)}
    return found | {names[name]: Trial(*values) for name, values in ways.items()}


@pytest.mark.parametrize(
    ("found", "pixels", "expected"),
    [
        pytest.param(trials(openvino=(0.7e-6, 1e-7)), MANY, OPENVINO, id="faster"),
        pytest.param(trials(openvino=(0.95e-6, 1e-7)), MANY, TORCH, id="hardly-faster"),
        pytest.param(trials(openvino=(2e-6, 1e-7)), MANY, TORCH, id="slower"),
        pytest.param(trials(openvino=(0.2e-6, 1e-3)), MANY, TORCH, id="not-the-same-result"),
        pytest.param(trials(openvino=(0.2e-6, math.nan)), MANY, TORCH, id="no-numbers"),
        pytest.param(trials(openvino=(0.5e-6, 0.0, 0.4)), 10**5, TORCH, id="long-to-start"),
        pytest.param(trials(openvino=(0.5e-6, 0.0, 0.4)), 10**7, OPENVINO, id="worth-the-start"),
        pytest.param(trials(half=(0.6e-6, 6e-3)), MANY, HALF, id="half-wide-faster"),
        pytest.param(trials(half=(0.85e-6, 6e-3)), MANY, TORCH, id="half-wide-not-worth-it"),
        pytest.param(trials(half=(0.6e-6, 0.1)), MANY, TORCH, id="half-wide-too-coarse"),
        pytest.param(
            trials(openvino=(0.6e-6, 0.0), half=(0.55e-6, 6e-3)), MANY, OPENVINO,
            id="half-wide-not-worth-it-any-more",
        ),
        pytest.param({}, MANY, TORCH, id="nothing-measured"),
    ],
)  # fmt: skip
def test_the_fastest_with_the_same_result_is_taken(found, pixels, expected):
    assert decide(found, [TORCH, OPENVINO, HALF], pixels) == expected


def test_a_recipe_narrows_the_ways(monkeypatch):
    monkeypatch.setattr(choice, "has_openvino", lambda: True)
    assert candidates("cpu", Recipe(model="-", backend="torch", precision="float32")) == [TORCH]
    assert candidates("cpu", Recipe(model="-", precision="float32")) == [TORCH, OPENVINO]
    assert candidates("cpu", Recipe(model="-", backend="openvino"))[0] == OPENVINO
    assert all(way.backend == "torch" for way in candidates("cuda", Recipe(model="-")))
    monkeypatch.setattr(choice, "has_openvino", lambda: False)
    assert all(way.backend == "torch" for way in candidates("cpu", Recipe(model="-")))


def test_it_is_measured_once_remembered_and_recorded(measuring, monkeypatch, model):
    measured = []

    def spy(*args):
        measured.append(real(*args))
        return measured[-1]

    real = choice.try_out
    monkeypatch.setattr(choice, "try_out", spy)
    info = as_volume(IMAGE).info
    recipe = Recipe(model="-", device="cpu")
    assert resolve(recipe, model.card, info).backend == "torch"  # not measured yet
    records = [predict(IMAGE, model, device="cpu").record for _ in range(2)]
    assert len(measured) == 1
    plan = resolve(recipe, model.card, info)
    for record in records:
        assert set(record["numerics"]["trials"]) >= {str(TORCH), str(OPENVINO), str(HALF)}
        assert record["numerics"]["trials"][str(OPENVINO)]["error"] <= 1e-5
        assert record["numerics"]["why"]
        # The plan, and with it the forecast, knows by now.
        assert (record["backend"], record["precision"]) == (plan.backend, plan.precision)
    assert records[0]["versions"]["openvino"]
    (measuring / "numerics.json").write_text("{ torn")
    predict(IMAGE, model, device="cpu")
    assert len(measured) == 2
    assert json.loads((measuring / "numerics.json").read_text())


def test_what_was_measured_decides_the_run(measuring, monkeypatch, model):
    monkeypatch.setattr(
        choice, "try_out", lambda *_: trials(openvino=(0.1e-6, 1e-7), half=(1e-5, 6e-3))
    )
    fast = predict(IMAGE, model, device="cpu")
    assert (fast.record["backend"], fast.record["precision"]) == ("openvino", "float32")
    assert "10 times as fast as torch float32" in fast.record["numerics"]["why"]
    plain = predict(IMAGE, model, device="cpu", backend="torch", precision="float32")
    assert (plain.record["backend"], plain.record["numerics"]["why"]) == ("torch", "asked for")
    flips = (fast.probabilities.argmax(0) != plain.probabilities.argmax(0)).mean()
    assert flips <= 1e-4


def test_a_precision_that_changes_the_result_is_not_taken(real_trial):
    """Also where it is faster."""

    class Fragile(torch.nn.Module):
        stride = 16

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return (x * 1000 + self.weight) - x * 1000 + 1e-3 * x

    fragile = Model(new_model("unet-tiny").card, Fragile().eval())
    found = real_trial[0](fragile, torch.device("cpu"), [TORCH, HALF])
    quick = {**found, str(HALF): Trial(**{**asdict(found[str(HALF)]), "seconds": 1e-12})}
    assert decide(quick, [TORCH, HALF], MANY) == TORCH


def test_a_trial_can_be_cancelled(measuring, model):
    token = CancelToken()

    def cancel_late(event):
        if event == Started("predicting", event.total):  # the trial is next
            token.cancel()

    with pytest.raises(Cancelled):
        predict(IMAGE, model, device="cpu", token=token, on_event=cancel_late)
    assert not (measuring / "numerics.json").exists()


def test_a_trial_is_made_on_a_smaller_image_where_memory_is_short(real_trial, monkeypatch, model):
    tried = []

    class Short(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            if x.shape[-1] > 32:  # not what batch normalisations are folded on
                tried.append(x.shape[-1])
            if x.shape[-1] > 100:
                raise torch.OutOfMemoryError("no memory of the device is left")
            return self.network(x)

    monkeypatch.setattr(trials_module, "_TRIAL_EDGES", {2: (256, 128, 64)})
    short = Model(model.card, Short(model.network).eval())
    found = real_trial[0](short, torch.device("cpu"), [TORCH, HALF])
    assert set(found) == {str(TORCH), str(HALF)}
    assert tried[:2] == [256, 128]
    assert set(tried[2:]) == {64}


def test_a_gpu_tries_both_half_wide_precisions_on_an_image_that_fills_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    ways = [way.precision for way in candidates("cuda", Recipe(model="-"))]
    assert ways == ["float32", "bfloat16", "float16"]
    assert trials_module._GPU_TRIAL_EDGES[2][0] >= 1024
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    ways = [way.precision for way in candidates("cuda", Recipe(model="-"))]
    assert ways == ["float32", "float16"]


def test_trials_that_were_made_otherwise_are_not_remembered(measuring, monkeypatch, model):
    predict(IMAGE, model, device="cpu")
    assert choice.remembered(model.card, "cpu")
    monkeypatch.setattr(choice, "METHOD", "another")
    assert not choice.remembered(model.card, "cpu")


def test_reasons_are_told():
    auto, torch_only = Recipe(model="-"), Recipe(model="-", backend="torch", precision="float32")
    recorded = choice.as_record(trials(openvino=(0.5e-6, 1e-7)))
    assert reason(TORCH, torch_only, {}) == "asked for"
    assert "not measured" in reason(TORCH, auto, {})
    assert "no other way" in reason(TORCH, auto, recorded)
    assert "2 times as fast" in reason(OPENVINO, auto, recorded)


def test_what_is_not_installed_is_refused_before_the_run(monkeypatch, model):
    monkeypatch.setattr(choice, "has_openvino", lambda: False)
    with pytest.raises(BackendError, match=r"pip install .*\[cpu\]"):
        resolve(Recipe(model="-", backend="openvino"), model.card, as_volume(IMAGE).info)
    assert predict(IMAGE, model).record["backend"] == "torch"


def test_openvino_runs_on_the_cpu_only(monkeypatch, model):
    info = as_volume(IMAGE).info
    with pytest.raises(BackendError, match="CPU only"):
        resolve(Recipe(model="-", backend="openvino", device="cuda"), model.card, info)
    assert resolve(Recipe(model="-", backend="openvino"), model.card, info).device == "cpu"


def test_back_ends_that_do_not_exist_are_refused(model):
    with pytest.raises(RecipeError, match="backend"):
        predict(IMAGE, model, backend="abacus")
