"""Networks in integers of 8 bits: nearly the same result, and only where they are asked for."""

import threading
import time

import numpy as np
import psutil
import pytest

from unet_studio.errors import BackendError, Cancelled
from unet_studio.events import CancelToken, Started, Warned
from unet_studio.images.volume import as_volume
from unet_studio.inference import choice
from unet_studio.inference import eight_bits as module
from unet_studio.inference.choice import INT8, Numerics, Trial, candidates, planned_device
from unet_studio.inference.openvino import converted
from unet_studio.inference.plan import resolve
from unet_studio.models.model import load_model
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict
from unet_studio.recipe import Recipe
from unet_studio.samples import read_sample

TORCH = Numerics()
OPTIONS = {"device": "cpu", "precision": "int8"}


def tried(monkeypatch, *int8):
    """Let a trial have found what is given of integers, in seconds per pixel and error."""
    found = {str(TORCH): Trial(1e-6, 0.0)} | ({str(INT8): Trial(*int8)} if int8 else {})
    memory = {}

    def try_out(*_):
        memory.update(found)
        return found

    monkeypatch.setattr(choice, "try_out", try_out)
    monkeypatch.setattr(choice, "remembered", lambda *_: dict(memory))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, home):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(home))


@pytest.fixture(scope="module")
def model():
    return load_model("nuclei")


def test_hardly_a_decision_changes_and_tiles_equal_the_whole(monkeypatch, model):
    tried(monkeypatch, 0.5e-6, 0.02)
    image = read_sample("nuclei_fluorescence")[:384, :400]
    expected = predict(image, model, device="cpu", backend="torch", precision="float32")
    said = []
    whole = predict(image, model, keep="logits", on_event=said.append, **OPTIONS)
    stages = [event.stage for event in said if isinstance(event, Started)]
    assert "trying out 8-bit integers" in stages
    assert stages[-1] == "predicting"
    # By now it lies in the cache.
    monkeypatch.setattr(module, "_run", lambda *_: pytest.fail("quantised again"))
    tiled = predict(image, model, keep="logits", tiling={"tile": 288}, **OPTIONS)
    assert (whole.record["backend"], whole.record["precision"]) == ("openvino", "int8")
    assert whole.record["numerics"]["why"] == "asked for"
    assert whole.record["versions"]["nncf"]
    assert not whole.warnings
    found, truth = whole.probabilities.argmax(0), expected.probabilities.argmax(0)
    assert 0 < (found != truth).mean() < 0.005
    assert (truth > 0).mean() > 0.05
    np.testing.assert_allclose(
        tiled.probabilities, whole.probabilities, atol=1e-3 * whole.probabilities.std()
    )


def test_what_changes_too_much_is_refused(monkeypatch, model):
    tried(monkeypatch, 0.5e-6, 0.3)
    with pytest.raises(BackendError, match=r"'nuclei' by 0\.3 of their deviation"):
        predict(np.eye(64, dtype=np.float32), model, **OPTIONS)


def test_they_are_used_where_they_are_slow_and_that_is_said(monkeypatch, model):
    """A recipe gives the same on all computers."""
    tried(monkeypatch, 2e-6, 0.02)
    said = []
    result = predict(np.eye(64, dtype=np.float32), model, on_event=said.append, **OPTIONS)
    assert result.record["precision"] == "int8"
    (warning,) = result.warnings
    assert "torch float32 is 2 times as fast" in warning
    assert result.record["warnings"] == [warning]
    assert Warned(warning) in said


def test_a_failed_trial_is_not_remembered(monkeypatch, model):
    tried(monkeypatch)
    kept = []
    monkeypatch.setattr(choice, "_remember", lambda *given: kept.append(given))
    result = predict(np.eye(64, dtype=np.float32), model, **OPTIONS)
    assert result.record["precision"] == "int8"
    assert not kept


def test_workers_leave_their_gpus_to_others(monkeypatch):
    from unet_studio.batch.workers import device_here

    assert device_here(Recipe(model="-", precision="int8"), spread=True) == "auto"
    assert device_here(Recipe(model="-", backend="openvino"), spread=True) == "auto"


def test_a_killed_quantiser_is_no_riddle(monkeypatch, model, tmp_path):
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho 10 %\nkill -9 $$\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(BackendError, match=r"8-bit integers \(it ended with -9\)"):
        module.eight_bits(converted(model), "nuclei", 1, (16, 16))


@pytest.mark.slow
def test_no_code_of_the_current_folder_is_run(monkeypatch, tmp_path):
    (tmp_path / "nncf.py").write_text("raise SystemExit('a stranger')\n")
    monkeypatch.chdir(tmp_path)
    small = new_model("unet-tiny", representation="objects", seed=3)
    converted(small, "int8")


@pytest.mark.slow
def test_threads_do_not_change_the_result(monkeypatch, tmp_path):
    made = []
    for threads in ("1", "4"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path / threads))
        converted(new_model("unet-tiny", representation="objects"), "int8")
        made.append(next(tmp_path.glob(f"{threads}/openvino/*-int8-*/network.bin")).read_bytes())
    assert made[0] == made[1]


def test_they_are_used_only_where_asked_for():
    assert INT8 not in candidates("cpu")
    assert INT8 not in candidates("cpu", Recipe(model="-"))
    assert candidates("cpu", Recipe(model="-", precision="int8")) == [INT8]


def test_what_can_not_run_is_refused_before_the_run(monkeypatch, model):
    info = as_volume(np.eye(64, dtype=np.float32)).info

    def refused(message, **options):
        with pytest.raises(BackendError, match=message):
            resolve(Recipe(model="-", precision="int8", **options), model.card, info)

    refused("CPU only, but the device is cuda", device="cuda")
    refused("CPU only, but the back end is torch", backend="torch")
    with pytest.raises(BackendError, match="CPU only, but the device is cuda"):
        planned_device(Recipe(model="-", precision="int8", device="cuda"))
    plan = resolve(Recipe(model="-", precision="int8"), model.card, info)
    assert (plan.device, plan.precision, plan.backend) == ("cpu", "int8", "openvino")
    monkeypatch.setattr(choice, "has_quantiser", lambda: False)
    refused(r"pip install .*\[int8\]", device="cpu")


def test_quantising_stops_when_asked_to(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path))
    model = new_model("unet-tiny", representation="objects")
    converted(model)
    token, begun = CancelToken(), []
    threading.Timer(1.0, lambda: begun.append(time.perf_counter()) or token.cancel()).start()
    with pytest.raises(Cancelled):
        converted(model, "int8", token.raise_if_cancelled)
    assert time.perf_counter() - begun[0] < 1
    ours = psutil.Process().children(recursive=True)
    assert not [p for p in ours if "eight_bits" in " ".join(p.cmdline())]
    assert len(list(tmp_path.glob("openvino/*"))) == 1


def test_what_fails_is_said_in_words(model):
    with pytest.raises(BackendError, match=r"'nuclei' can not be turned into .*Leave the prec"):
        module.eight_bits(converted(model), "nuclei", 0, (16, 16))


def test_programs_run_as_they_are(model):
    card = model.card.model_copy(update={"architecture": "onnx"})
    info = as_volume(np.eye(64, dtype=np.float32)).info
    with pytest.raises(BackendError, match="brings its own way to be run"):
        resolve(Recipe(model="-", precision="int8"), card, info)


@pytest.mark.slow
def test_volumes_too(monkeypatch):
    tried(monkeypatch, 0.5e-6, 0.02)
    volume = np.random.default_rng(0).random((9, 24, 28)).astype(np.float32)
    options = {"widths": [4, 8, 8], "poolings": [[1, 2, 2], [2, 2, 2]]}
    small = new_model("unet-tiny", ndim=3, options=options)
    expected = predict(volume, small, axes="ZYX", keep="logits", device="cpu").probabilities
    found = predict(volume, small, axes="ZYX", keep="logits", **OPTIONS)
    assert found.record["precision"] == "int8"
    assert np.abs(found.probabilities - expected).mean() < 0.1 * expected.std()


@pytest.mark.slow
def test_a_real_trial_decides_and_is_remembered(measuring, model):
    image = read_sample("nuclei_fluorescence")
    first, again = (predict(image, model, **OPTIONS) for _ in range(2))
    own = first.record["numerics"]["trials"][str(INT8)]
    assert 0 < own["error"] < 0.1
    assert first.record["numerics"] == again.record["numerics"]
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    assert str(INT8) not in predict(image, model, device="cpu").record["numerics"]["trials"]


@pytest.mark.slow
def test_nothing_is_reported_to_its_makers(tmp_path, network_watch):
    """NNCF would report each use."""
    code = (
        "from unet_studio.inference.openvino import converted\n"
        "from unet_studio.models.presets import new_model\n"
        "converted(new_model('unet-tiny'), 'int8')\n"
    )
    first, second = network_watch.watched(code, tmp_path)
    assert first.startswith("process")
    assert second.startswith("process")
