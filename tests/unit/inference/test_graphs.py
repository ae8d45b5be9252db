"""Where nothing can be kept on the disk, a network is still converted and tried out once."""

import gc
import threading
import time

import numpy as np
import pytest

from unet_studio.errors import Cancelled
from unet_studio.events import CancelToken
from unet_studio.inference import choice, graphs
from unet_studio.inference import openvino as backend
from unet_studio.inference.cache import JsonCache
from unet_studio.inference.openvino import converted
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict

IMAGE = np.random.default_rng(0).random((70, 90)).astype(np.float32)
INTEGERS = {"device": "cpu", "precision": "int8"}


@pytest.fixture
def model():
    return new_model("unet-tiny", representation="objects")


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """A cache folder that can not be made."""
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path / "file"))


@pytest.fixture
def made(monkeypatch):
    """What was converted, and turned into integers, which are none here."""
    made, real = [], backend._convert

    def eight_bits(graph, *_):
        made.append("int8")
        return graph.clone()

    monkeypatch.setattr(backend, "eight_bits", eight_bits)
    monkeypatch.setattr(backend, "_convert", lambda m: made.append("float32") or real(m))
    return made


@pytest.fixture
def trials(monkeypatch, measuring, no_cache):
    """How often a network was tried out."""
    trials, real = [], choice.try_out
    monkeypatch.setattr(choice, "try_out", lambda *given: trials.append(given) or real(*given))
    return trials


def test_a_network_is_quantised_and_tried_out_once(model, trials, made):
    results = [predict(IMAGE, model, **INTEGERS) for _ in range(2)]
    assert [result.record["precision"] for result in results] == ["int8", "int8"]
    np.testing.assert_array_equal(results[0].probabilities, results[1].probabilities)
    assert sorted(made) == ["float32", "int8"]
    assert len(trials) == 1


def test_what_auto_takes_is_measured_once(model, trials):
    for _ in range(2):
        predict(IMAGE, model, device="cpu")
    assert len(trials) == 1


def test_two_shapes_at_once_do_not_get_into_each_others_way(model, no_cache):
    first, second = converted(model), converted(model)
    first.reshape([1, 1, 32, 32])
    assert second.inputs[0].partial_shape.is_dynamic
    assert converted(model).inputs[0].partial_shape.is_dynamic


def test_graphs_go_with_their_network(no_cache, made):
    gc.collect()
    before = len(graphs._held)
    model = new_model("unet-tiny", representation="objects")
    for _ in range(3):
        converted(model, "int8")
        for parameter in model.network.parameters():
            parameter.add_(1)
    assert made.count("int8") == 3
    assert len(graphs._held) == before + 1
    assert len(graphs._held[model.network]) == 2, "no older weights are held"
    made.clear()
    del model, parameter
    gc.collect()
    assert len(graphs._held) == before


def test_threads_that_want_the_same_wait_for_one(model, no_cache, made):
    got = []
    threads = [
        threading.Thread(target=lambda: got.append(converted(model, "int8"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 3
    assert sorted(made) == ["float32", "int8"]


def test_who_waits_can_be_cancelled(model, no_cache, monkeypatch):
    begun, go = threading.Event(), threading.Event()

    def slow(graph, *_):
        begun.set()
        assert go.wait(60)
        return graph.clone()

    monkeypatch.setattr(backend, "eight_bits", slow)
    thread = threading.Thread(target=converted, args=(model, "int8"))
    thread.start()
    try:
        assert begun.wait(60)
        token = CancelToken()
        token.cancel()
        began = time.perf_counter()
        with pytest.raises(Cancelled):
            converted(model, "int8", token.raise_if_cancelled)
        assert time.perf_counter() - began < 0.5
    finally:
        go.set()
        thread.join()


def test_what_can_not_be_written_is_remembered_by_the_process(tmp_path):
    path = tmp_path / "file" / "numbers.json"
    path.parent.write_text("not a folder")
    for number in range(70):
        JsonCache(path).set(str(number), number)
    assert JsonCache(path).get("69") == 69
    assert JsonCache(path).get("0") is None, "not without end"
    path.parent.unlink()
    JsonCache(path).set("more", 1)
    assert JsonCache(path).get("more") == 1
    assert path.exists()
