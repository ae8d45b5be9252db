"""Work that can not be stopped is no reason to be kept waiting."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest
from scipy import ndimage

from unet_studio.errors import Cancelled
from unet_studio.objects import frames, interruptible
from unet_studio.objects.blockwise import label_blocks
from unet_studio.objects.interruptible import run_interruptibly
from unet_studio.objects.methods import METHODS
from unet_studio.recipe import ObjectsMethod

LARGE = interruptible.WAITS_FOR + 1


def stop_after(seconds):
    end = time.monotonic() + seconds

    def check():
        if time.monotonic() > end:
            raise Cancelled("stop")

    return check


def test_small_work_is_done_here():
    assert run_interruptibly(threading.current_thread, 10, lambda: None) is (
        threading.current_thread()
    )
    assert run_interruptibly(threading.current_thread, LARGE, lambda: None) is not (
        threading.current_thread()
    )


def test_what_the_work_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        run_interruptibly(lambda: 1 // 0, LARGE, lambda: None)


def test_it_is_given_up_while_the_work_goes_on():
    hold = threading.Event()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        run_interruptibly(lambda: hold.wait(20), LARGE, stop_after(0.1))
    assert time.monotonic() - began < 2
    hold.set()


@pytest.fixture
def slow_method(monkeypatch):
    """Components that take for ever, as one compiled call would."""
    hold = threading.Event()
    plain = METHODS.load("components")

    def function(*arguments):
        hold.wait(20)
        return plain.function(*arguments)

    def replace(**more):
        slow = dataclasses.replace(plain, function=function, **more)
        monkeypatch.setattr(type(METHODS), "load", lambda self, name: slow)

    monkeypatch.setattr(interruptible, "WAITS_FOR", 100)
    yield replace
    hold.set()


def test_one_piece_as_large_as_the_image_can_be_cancelled(slow_method):
    slow_method()
    output = np.zeros((60, 60), np.uint32)
    steps = label_blocks(
        np.ones((1, 60, 60), np.float16), output, ObjectsMethod(method="components"), "binary",
        block=(16, 16), limit=output.size, check=stop_after(0.3),
    )  # fmt: skip
    began = time.monotonic()
    with pytest.raises(Cancelled):
        list(steps)
    assert time.monotonic() - began < 2


def test_so_can_a_method_that_wants_the_whole_frame(slow_method):
    slow_method(support=None)
    steps = frames.label_frame(
        np.ones((1, 60, 60), np.float16), ObjectsMethod(method="components"), "binary", 0,
        stop_after(0.3),
    )  # fmt: skip
    began = time.monotonic()
    with pytest.raises(Cancelled):
        list(steps)
    assert time.monotonic() - began < 2


def test_labels_do_not_depend_on_who_does_the_work(monkeypatch):
    random = np.random.default_rng(0)
    field = ndimage.gaussian_filter(random.standard_normal((3, 80, 90)), (0, 2, 2))
    probabilities = np.clip(field * 8 + 0.5, 0, 1).astype(np.float16)
    results = []
    for waits_for in (10**9, 0):
        monkeypatch.setattr(interruptible, "WAITS_FOR", waits_for)
        output = np.zeros((80, 90), np.uint32)
        method = ObjectsMethod(method="watershed")
        list(label_blocks(probabilities, output, method, "objects", block=(32, 32)))
        results.append(output)
    assert results[0].max() > 5
    np.testing.assert_array_equal(*results)
