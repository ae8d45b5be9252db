"""Several devices share the tiles of a run; two lanes of one GPU copy while it computes."""

import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unet_studio.errors import Cancelled, RecipeError
from unet_studio.events import CancelToken
from unet_studio.inference import devices, executor, lanes, predictor
from unet_studio.inference.lanes import LinkedToken, run_lanes
from unet_studio.inference.transfer import StreamTransfer, Work
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict

CPU = torch.device("cpu")
IMAGE = np.random.default_rng(0).random((400, 400)).astype(np.float32)
OPTIONS = {
    "keep": "logits", "precision": "float32", "backend": "torch",
    "tiling": {"tile": 208, "halo": 16},
}  # fmt: skip


class Lane:
    device = CPU


def test_results_come_in_order_whichever_is_first():
    def work(_lane, batch):
        time.sleep(0.02 * (batch % 3 == 0))
        return batch**2

    results = list(run_lanes([Lane(), Lane(), Lane()], range(20), work, CancelToken()))
    assert results == [(n, n**2) for n in range(20)]


def test_each_lane_does_one_batch_at_a_time_and_none_is_idle():
    busy, most, seen = set(), [], set()

    def work(lane, _batch):
        assert lane not in busy
        busy.add(lane)
        seen.add(lane)
        most.append(len(busy))
        time.sleep(0.01)
        busy.discard(lane)

    list(run_lanes([Lane(), Lane(), Lane()], range(30), work, CancelToken()))
    assert len(seen) == max(most) == 3


def test_what_failed_first_is_raised_and_the_others_stop():
    stop = LinkedToken(CancelToken())

    def work(_lane, batch):
        if batch == 1:
            raise RecipeError("the cause")
        for _ in range(6000):
            time.sleep(0.01)
            stop.raise_if_cancelled()

    began = time.perf_counter()
    with pytest.raises(RecipeError, match="the cause"):
        list(run_lanes([Lane(), Lane()], range(10), work, stop))
    assert time.perf_counter() - began < 30
    assert not [t for t in threading.enumerate() if "lane" in t.name]


def test_devices_share_tiles_and_give_what_one_gives(monkeypatch):
    model = new_model("unet-tiny")
    alone = predict(IMAGE, model, **OPTIONS)
    made = []
    real = predictor.make_executors

    def spy(*args):
        made.extend(real(*args))
        return made

    monkeypatch.setattr(predictor, "open_devices", lambda *_: ([CPU, CPU], None))
    monkeypatch.setattr(predictor, "make_executors", spy)
    shared = predict(IMAGE, model, **OPTIONS)
    assert len(made) == 2
    assert all(executor._network is not None for executor in made), "both had work"
    # Rounding differs with what happens to share a batch, not with which device had it.
    np.testing.assert_allclose(shared.probabilities, alone.probabilities, atol=1e-6)


def test_cancelling_stops_all_devices(monkeypatch):
    monkeypatch.setattr(predictor, "open_devices", lambda *_: ([CPU, CPU], None))
    token = CancelToken()
    with pytest.raises(Cancelled):
        predict(IMAGE, new_model("unet-tiny"), token=token, on_event=lambda _: token.cancel(),
                **OPTIONS)  # fmt: skip
    assert not [t for t in threading.enumerate() if "unet-studio" in t.name]


@pytest.mark.parametrize(
    ("name", "tiles", "expected"),
    [
        ("cuda", 100, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda", 7, ["cuda:0", "cuda:1"]),
        ("cuda", 1, ["cuda:0"]),
        ("cuda:1", 100, ["cuda:1"]),
        ("cuda:0,cuda:2", 100, ["cuda:0", "cuda:2"]),
        ("cuda:0,cuda:2", 1, ["cuda:0"]),
        ("cuda:0,cuda:7", 100, ["cpu"]),
        ("cpu", 100, ["cpu"]),
    ],
)
def test_all_gpus_are_used_where_tiles_are_many(monkeypatch, name, tiles, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    opened, notice = devices.open_devices(name, tiles)
    assert [str(device) for device in opened] == expected
    assert (notice is not None) == (expected == ["cpu"] and name != "cpu")


class FakeCuda:
    """Streams that write down what is done in which, and do it at once."""

    def __init__(self):
        self.log, self.current = [], "default"

    def Stream(self, _device):
        return FakeStream(self, f"stream{len([x for x in self.log if x[0] == 'made'])}")

    def current_stream(self, _device):
        return SimpleNamespace(name=self.current)

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream.name
        yield
        self.current = before


class FakeStream:
    def __init__(self, cuda, name):
        self.cuda, self.name = cuda, name
        cuda.log.append(("made", name))

    def wait_stream(self, other):
        self.cuda.log.append((self.name, "waits for", other.name))

    def record_event(self):
        self.cuda.log.append((self.name, "event"))
        return f"event of {self.name}"

    def wait_event(self, event):
        self.cuda.log.append((self.name, "waits for", event))

    def synchronize(self):
        self.cuda.log.append((self.name, "synchronised"))


def test_copies_have_streams_of_their_own_and_wait_for_what_they_need(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    cuda = FakeCuda()
    work = Work(cuda.Stream(CPU))
    pinned = []

    def empty(shape, dtype):
        pinned.append(shape)
        return torch.empty(shape, dtype=dtype)

    transfer = StreamTransfer(CPU, work, cuda, empty)
    stack = np.random.default_rng(0).integers(0, 60000, (2, 1, 8, 8)).astype(np.uint16)
    cuda.log.clear()

    def prepare(raw):
        assert (cuda.current, raw.dtype) == ("stream1", torch.uint16), "as it was read"
        return raw.to(torch.float32)

    tensor = transfer.put(list(stack), prepare)
    with transfer.computing():
        assert cuda.current == "stream0"
        assert work.turn.locked()
        result = tensor * 2
    assert not work.turn.locked()
    back = transfer.get([result[0, :, :4].contiguous(), result[1]])
    np.testing.assert_array_equal(back[0], stack[0, :, :4] * 2.0)
    np.testing.assert_array_equal(back[1], stack[1] * 2.0)
    assert pinned == [(2, 1, 8, 8), (1, 4, 8), (1, 8, 8)]
    assert cuda.log == [
        ("stream0", "waits for", "stream1"),
        ("stream0", "event"),
        ("stream2", "waits for", "event of stream0"),
        ("stream2", "synchronised"),
    ]


@pytest.mark.parametrize("keep", ["logits", "probabilities"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_way_of_a_gpu_gives_what_a_cpu_gives(monkeypatch, keep, dtype):
    """Two lanes with streams, several threads that read and write."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4000, (500, 630)).astype(dtype)
    image[:200, :300] = 7
    if dtype == "float32":
        image[300:310, 400:500] = np.nan
    model = new_model("unet-tiny", representation="objects")
    options = {**OPTIONS, "keep": keep}
    expected = predict(image, model, **options)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr(predictor.TileRun, "_threads", 3)
    used = []

    def streams(model, plan, devices, *rest):
        cuda = FakeCuda()
        work = Work(cuda.Stream(CPU))
        for _ in range(2):
            transfer = StreamTransfer(CPU, work, cuda, torch.empty)
            used.append(lanes.Executor(model, plan, CPU, *rest, transfer))
        return used

    monkeypatch.setattr(predictor, "make_executors", streams)
    found = predict(image, model, **options)
    assert all(executor._network is not None for executor in used)
    atol = 1e-6 if keep == "logits" else 1e-3
    np.testing.assert_allclose(
        found.probabilities.astype(float), expected.probabilities.astype(float), atol=atol
    )
    assert found.warnings == expected.warnings


def test_a_gpu_with_several_tiles_has_two_lanes_in_one_stream(monkeypatch):
    monkeypatch.setattr(lanes.torch.cuda, "Stream", lambda _device: object())
    made = []
    monkeypatch.setattr(lanes, "Executor", lambda *args: made.append(args))
    monkeypatch.setattr(lanes, "StreamTransfer", lambda device, work: (device, work))

    class Plan:
        tile_count, batch = 8, 2

    gpu = torch.device("cuda", 0)
    lanes.make_executors(None, Plan, [gpu, torch.device("cuda", 1)], None, "logits", None, None)
    transfers = [args[-1] for args in made]
    assert [str(device) for device, _ in transfers] == ["cuda:0"] * 2 + ["cuda:1"] * 2
    assert transfers[0][1] is transfers[1][1] is not transfers[2][1]
    made.clear()
    Plan.tile_count = 2
    lanes.make_executors(None, Plan, [gpu], None, "logits", None, None)
    assert len(made) == 1
    made.clear()
    lanes.make_executors(None, Plan, [CPU], None, "logits", None, None)
    assert len(made) == 1


def test_the_network_waits_for_its_weights(monkeypatch):
    """They are put on the device in another stream than that in which it runs."""
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    cuda = FakeCuda()
    work = Work(cuda.Stream(CPU))
    real_prepare, real_computing = executor.prepare, StreamTransfer.computing

    def prepare(*args):
        cuda.log.append((cuda.current, "copies weights"))
        return real_prepare(*args)

    @contextmanager
    def computing(self):
        with real_computing(self):
            cuda.log.append((cuda.current, "computes"))
            yield

    def make(model, plan, devices_, *args):
        transfer = StreamTransfer(CPU, work, cuda, torch.empty)
        return [executor.Executor(model, plan, devices_[0], *args, transfer)]

    monkeypatch.setattr(executor, "prepare", prepare)
    monkeypatch.setattr(StreamTransfer, "computing", computing)
    monkeypatch.setattr(predictor, "make_executors", make)
    predict(IMAGE, new_model("unet-tiny"), device="cpu", **OPTIONS)
    copied = cuda.log.index(("default", "copies weights"))
    waits = cuda.log.index(("stream0", "waits for", "default"))
    assert copied < waits < cuda.log.index(("stream0", "computes"))
    assert cuda.log.count(("stream0", "waits for", "default")) == 1, "once, not for each tile"
