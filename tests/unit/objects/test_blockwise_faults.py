"""Block by block: progress, and what can go wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from support.blockwise import SETTINGS, by_blocks, noise, whole
from unet_studio.errors import Cancelled, ImageError, OutputError, RecipeError
from unet_studio.events import drain
from unet_studio.objects import methods
from unet_studio.objects.blockwise import label_blocks
from unet_studio.objects.methods import METHODS, suitable_methods
from unet_studio.recipe import ObjectsMethod


def test_progress_counts_up_to_the_end():
    probabilities = noise((50, 50), "objects", 3)
    for setting in ("watershed", "argmax", "threshold, cleaned"):
        name, representation, options = SETTINGS[setting]
        method = ObjectsMethod(method=name, options=options)
        output = np.zeros((50, 50), np.uint8 if name != "watershed" else np.uint16)
        steps = list(label_blocks(probabilities, output, method, representation, block=(20, 20)))
        done = [s[0] for s in steps]
        assert done == sorted(done)
        assert steps[-1][0] == steps[-1][1]


def test_check_stops_it():
    calls = []

    def check():
        calls.append(1)
        if len(calls) > 4:
            raise Cancelled("stopped")

    probabilities = noise((50, 50), "objects", 3)
    with pytest.raises(Cancelled):
        by_blocks(
            probabilities, ObjectsMethod(method="watershed"), "objects", (20, 20), check=check
        )


def test_a_method_that_does_not_say_where_it_looks_names_those_that_do(monkeypatch):
    silent = dataclasses.replace(METHODS.load("watershed"), support=None)
    monkeypatch.setattr(
        methods.Registry,
        "load",
        lambda self, name, load=methods.Registry.load: (
            silent if name == "watershed" else load(self, name)
        ),
    )
    with pytest.raises(RecipeError, match=r"'watershed' .* block by block.* threshold"):
        label_blocks(
            np.zeros((3, 8, 8)),
            np.zeros((8, 8), np.uint32),
            ObjectsMethod(method="watershed"),
            "objects",
            block=(4, 4),
        )


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_of_ours_runs_block_by_block(name):
    chosen = METHODS.load(name)
    assert chosen.support is not None
    for representation in chosen.representations:
        probabilities = noise((40, 40), "objects", 6)
        method = ObjectsMethod(method=name)
        labels, _ = by_blocks(probabilities, method, representation, (16, 12))
        np.testing.assert_array_equal(labels, whole(probabilities, method, representation))


@pytest.mark.parametrize(
    ("shape", "dtype", "block", "name", "message"),
    [
        ((8, 9), "uint32", (4, 4), "watershed", r"\(8, 9\)"),
        ((8, 8), "uint32", (4, 4, 4), "watershed", "one length"),
        ((8, 8), "uint32", (4, 0), "watershed", "one length"),
        ((8, 8), "float32", (4, 4), "watershed", "whole numbers"),
        ((8, 8), "uint32", (4, 4), "argmax", "watershed"),
    ],
)
def test_what_does_not_fit_is_said_before_the_start(shape, dtype, block, name, message):
    with pytest.raises(RecipeError, match=message):
        label_blocks(
            np.zeros((3, 8, 8)),
            np.zeros(shape, dtype),
            ObjectsMethod(method=name),
            "objects",
            block=block,
        )
    assert "watershed" in suitable_methods("objects")


def dots(count):
    probabilities = np.zeros((1, 2, 2 * count), np.float16)
    probabilities[0, 0, ::2] = 1
    return probabilities


@pytest.mark.parametrize(("offset", "count"), [(0, 300), (200, 100)])
def test_too_many_objects_for_the_label_array(offset, count):
    method = ObjectsMethod(method="components", options={"min_size": 0})
    output = np.zeros((2, 2 * count), np.uint8)
    steps = label_blocks(dots(count), output, method, "binary", block=(2, 50), offset=offset)
    with pytest.raises(OutputError, match=r"uint32"):
        drain(steps)


def test_a_label_array_that_is_not_empty_is_refused():
    method = ObjectsMethod(method="components", options={"min_size": 0})
    output = np.ones((2, 20), np.uint32)
    with pytest.raises(OutputError, match="labels already"):
        drain(label_blocks(dots(10), output, method, "binary", block=(2, 5)))


class Broken(np.ndarray):
    def __getitem__(self, key):
        raise OSError("bad chunk")

    def __setitem__(self, key, value):
        raise OSError("disk full")


@pytest.mark.parametrize("part", ["in", "read back", "out", "memory"])
def test_failures_say_where_and_what_to_do(part, monkeypatch):
    probabilities, output = dots(10), np.zeros((2, 20), np.uint32)
    method = ObjectsMethod(method="components", options={"min_size": 0})
    expected, message = OutputError, "could not be read back: bad chunk"
    if part == "in":
        probabilities = probabilities.view(Broken)
        expected, message = ImageError, "Y 0:2, X 0:5: bad chunk"
    elif part == "read back":
        output = output.view(Broken)
    elif part == "out":
        output = output.view(type("Full", (Broken,), {"__getitem__": np.ndarray.__getitem__}))
        message = "could not be written at Y 0:2, X 0:5: disk full"
    else:
        monkeypatch.setattr(
            "unet_studio.objects.pieces.connected",
            lambda *_: (_ for _ in ()).throw(MemoryError()),
        )
        expected, message = RecipeError, "not enough memory"
    with pytest.raises(expected, match=message):
        drain(label_blocks(probabilities, output, method, "binary", block=(2, 5)))
