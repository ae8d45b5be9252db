"""OpenVINO says what torch says, stops when asked to, and fails in words."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from unet_studio.errors import BackendError, Cancelled
from unet_studio.events import CancelToken, Warned
from unet_studio.inference import openvino as backend
from unet_studio.inference import settling
from unet_studio.inference.choice import Numerics
from unet_studio.models.model import Model, load_model
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 4000, (300, 333)).astype(np.uint16)
BACKENDS = ("torch", "openvino")
SMALL = {"widths": [2, 4, 4], "poolings": [[1, 2, 2], [2, 2, 2]]}
OPTIONS = {"keep": "logits", "precision": "float32", "device": "cpu"}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def model():
    return new_model("unet-tiny", representation="objects")


def both(image, model, **options):
    results = [predict(image, model, backend=b, **OPTIONS, **options) for b in BACKENDS]
    assert [r.record["backend"] for r in results] == list(BACKENDS)
    return [r.probabilities for r in results]


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        pytest.param("unet-tiny", {}, id="unet"),
        pytest.param("unet-tiny", {"flips": True}, id="flips"),
        pytest.param("unet-tiny", {"tiling": {"tile": 256, "halo": 16}}, id="tiles"),
        pytest.param("resnet18", {}, id="resnet"),
    ],
)
def test_logits_are_those_of_torch(preset, options):
    expected, found = both(IMAGE, new_model(preset, representation="objects"), **options)
    assert np.abs(found - expected).max() <= 1e-4 * expected.std()
    assert np.abs(found - expected).mean() <= 1e-5 * expected.std()


def test_volumes_too():
    volume = RNG.random((9, 24, 28)).astype(np.float32)
    expected, found = both(volume, new_model("unet-tiny", ndim=3, options=SMALL), axes="ZYX")
    assert np.abs(found - expected).max() <= 1e-4 * expected.std()


def test_tiles_equal_whole(model):
    whole, tiled = (
        predict(IMAGE, model, backend="openvino", tiling={"tile": tile}, **OPTIONS).probabilities
        for tile in (1024, 256)
    )
    assert np.abs(whole - tiled).max() <= 1e-4 * whole.std()


def test_no_decision_of_the_nuclei_model_changes(shared_data):
    from unet_studio.images.readers import read_image

    path = sorted((shared_data / "dsb2018_fluo" / "train" / "images").glob("*.png"))[0]
    image = read_image(path)
    expected, found = both(image, load_model("nuclei"))
    assert (found.argmax(0) != expected.argmax(0)).mean() <= 1e-5


def test_a_converted_network_is_kept_and_checked(model, own_cache, monkeypatch):
    def conversions(count):
        assert len(converted) == count
        return predict(IMAGE, model, backend="openvino", **OPTIONS).probabilities

    real, converted = backend._convert, []
    monkeypatch.setattr(backend, "_convert", lambda m: converted.append(m) or real(m))
    first = conversions(0)
    again = conversions(1)
    assert len(converted) == 1
    weights = next(own_cache.glob("openvino/*/network.bin"))
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 0x40
    weights.write_bytes(data)
    mended = conversions(1)
    assert len(converted) == 2
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, mended)
    assert not list(own_cache.glob("openvino/.partial*"))


def test_other_weights_are_another_network(model):
    other = new_model("unet-tiny", representation="objects", seed=7)
    first, second = (
        predict(IMAGE, m, backend="openvino", **OPTIONS).probabilities for m in (model, other)
    )
    assert np.abs(first - second).mean() > 1e-2 * first.std()


def test_a_cache_that_can_not_be_written_only_costs_time(model, own_cache, monkeypatch):
    (own_cache / "file").write_text("not a folder")
    monkeypatch.setenv("UNET_STUDIO_HOME", str(own_cache / "file"))
    result = predict(IMAGE, model, backend="openvino", **OPTIONS)
    assert result.record["backend"] == "openvino"


def test_it_stops_within_a_tile(model):
    """The largest tile runs for seconds: cancelling must not wait for its end."""
    model = new_model("unet-slim", representation="objects")
    image = RNG.random((2600, 2600)).astype(np.float32)
    token = CancelToken()
    cancelled = []

    def cancel():
        cancelled.append(time.perf_counter())
        token.cancel()

    real = backend.OpenVinoNetwork.__call__

    def running(self, tensor):
        threading.Timer(0.4, cancel).start()  # at work by then
        return real(self, tensor)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Cancelled):
        patch.setattr(backend.OpenVinoNetwork, "__call__", running)
        predict(image, model, backend="openvino", token=token, tiling={"tile": 4096}, **OPTIONS)
    assert time.perf_counter() - cancelled[0] < 2


class Strange(nn.Module):
    """A network that can not be traced."""

    stride = 16

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        if torch.jit.is_tracing():
            raise ValueError("not for tracing")
        return self.network(x)


def test_what_openvino_can_not_run_is_run_by_torch(model, monkeypatch):
    strange = Model(model.card, Strange(model.network).eval())
    with pytest.raises(BackendError, match="not for tracing"):
        predict(IMAGE, strange, backend="openvino", **OPTIONS)
    monkeypatch.setattr(settling, "choose", lambda *_: Numerics("openvino"))
    said = []
    result = predict(IMAGE, strange, on_event=said.append, **OPTIONS)
    assert result.record["backend"] == "torch"
    assert any("torch" in e.message for e in said if isinstance(e, Warned))
    expected = predict(IMAGE, model, backend="torch", **OPTIONS).probabilities
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-5)


def test_out_of_memory_makes_tiles_smaller(model, monkeypatch):
    expected = predict(IMAGE, model, backend="openvino", **OPTIONS).probabilities
    real = backend.OpenVinoNetwork.__call__

    def short(self, tensor):
        if tensor[0, 0].numel() > 60_000:
            raise RuntimeError("Exception from src/inference/src: std::bad_alloc")
        return real(self, tensor)

    monkeypatch.setattr(backend.OpenVinoNetwork, "__call__", short)
    result = predict(IMAGE, model, backend="openvino", **OPTIONS)
    assert any("ran out of memory" in text for text in result.warnings)
    assert result.record["backend"] == "openvino"
    assert np.abs(result.probabilities - expected).max() <= 1e-4 * expected.std()


def test_half_width_is_refused_where_the_processor_has_none(model, monkeypatch):
    monkeypatch.setattr(backend, "runs_in", lambda precision: precision == "float32")
    with pytest.raises(BackendError, match="bfloat16"):
        predict(IMAGE, model, backend="openvino", precision="bfloat16")


def test_nothing_is_reported_to_its_makers(tmp_path, network_watch):
    """Its import would, and ``openvino.convert_model`` for each use."""
    code = (
        "import sys, numpy as np\n"
        "from unet_studio import predict\n"
        "from unet_studio.models.presets import new_model\n"
        "predict(np.random.rand(64, 64), new_model('unet-tiny'), backend='openvino')\n"
        "assert 'openvino' in sys.modules\n"
    )
    assert network_watch.watched(code, tmp_path) == ["process ['-c']"]


SIGNALLED = """
import signal
import numpy as np
from unet_studio import segment
signal.signal(signal.SIGINT, lambda *_: print("handled", flush=True))
image = np.random.default_rng(0).integers(0, 255, (256, 256)).astype(np.uint8)
for _ in range(2):  # the first one tries out every way to run the network
    segment(image, "random:unet-tiny", axes="YX", device="cpu")
signal.raise_signal(signal.SIGINT)
"""


def test_signals_are_handled_after_it_was_tried_out():
    """It gives the thread another stack for signals, which must not be freed."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
