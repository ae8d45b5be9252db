"""The process behind the Batch tab, spoken to as the window does."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from unet_studio.batch.talk import Order

COMMAND = [sys.executable, "-P", "-m", "unet_studio.batch.talk"]


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 255, (32, 40)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "images" / f"{number}.tif", image)
    return tmp_path / "images"


def told(order: Order) -> list[dict]:
    """Keep the input open until the process has ended, as the window does."""
    process = subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        process.stdin.write(order.line())
        process.stdin.flush()
        lines = process.stdout.read().splitlines()
        assert process.wait(60) == 0, process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    return [json.loads(line) for line in lines]


def test_it_looks_without_writing(images, tmp_path):
    (images / "bad.tif").write_bytes(b"no image")
    recipe = {"model": "nuclei"}
    events = told(Order([str(images)], str(tmp_path / "out"), recipe, look=True))
    assert [e["event"] for e in events] == ["started", *["looked"] * 4, "ended"]
    looks = {e["name"]: e for e in events if e["event"] == "looked"}
    assert looks["0.tif"]["words"] == "Y 32 x X 40, uint8, channels 0"
    assert looks["0.tif"]["path"] == str(images / "0.tif")
    assert "bad.tif" in looks["bad.tif"]["problem"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("recipe", "file", "said"),
    [({"model": "nothing-like-it"}, "", "nothing-like-it"), ({}, "gone.toml", "can not be read")],
)
def test_what_is_wrong_is_the_last_line(images, tmp_path, recipe, file, said):
    events = told(Order([str(images)], str(tmp_path / "out"), recipe, file, look=True))
    assert [e["event"] for e in events] == ["error"]
    assert said in events[0]["reason"]


def test_it_runs_and_ends_when_nobody_listens_any_more(images, tmp_path):
    recipe = {"model": "random:unet-tiny", "device": "cpu", "precision": "float32"}
    options = {"overlays": True}
    order = Order([str(images)], str(tmp_path / "out"), recipe, options=options)
    events = told(order)
    items = [e for e in events if e["event"] == "item"]
    assert [e["state"] for e in items] == ["done"] * 3
    assert events[0] == {"event": "started", "total": 3}
    assert events[-1]["event"] == "ended"
    assert all((tmp_path / "out" / f"{n}_overlay.png").is_file() for n in range(3))
    # A window that is gone has closed the input; the model takes longer to load than that.
    ended = subprocess.run(
        COMMAND, input=order.line(), capture_output=True, timeout=120, check=True
    )
    assert json.loads(ended.stdout.splitlines()[-1]) == {"event": "cancelled"}
