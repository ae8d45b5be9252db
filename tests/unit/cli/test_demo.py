"""``unet-studio demo``, without its window."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from unet_studio import read_image
from unet_studio.samples import SAMPLES


def test_demo_segments_real_nuclei_and_draws_them(unet_studio, tmp_path):
    ended = unet_studio("demo", "--headless", "-o", tmp_path / "demo")
    assert ended.code == 0, ended.err
    files = {p.name for p in (tmp_path / "demo").iterdir()}
    assert files == {
        "nuclei_fluorescence_labels.png", "nuclei_fluorescence_labels.png.json",
        "nuclei_fluorescence_objects.csv", "nuclei_fluorescence_overlay.png",
    }  # fmt: skip
    assert all(name in ended.out for name in files)
    labels = read_image(tmp_path / "demo" / "nuclei_fluorescence_labels.png").read()[0]
    image = read_image(SAMPLES["nuclei_fluorescence"].path).read()[0].astype(float)
    record = json.loads((tmp_path / "demo" / "nuclei_fluorescence_labels.png.json").read_text())
    assert labels.max() == record["objects"]["count"] >= 10
    assert f"{labels.max()} objects" in ended.out
    assert image[labels > 0].mean() > 3 * image[labels == 0].mean(), "bright nuclei are found"
    picture = np.asarray(Image.open(tmp_path / "demo" / "nuclei_fluorescence_overlay.png"))
    assert picture.shape[0] >= 360
    assert picture.shape[1] > 2 * picture.shape[0] * 0.95, "the image beside the labels"
    left, right = picture[:, : picture.shape[0]], picture[:, -picture.shape[0] :]
    assert np.ptp(left.astype(int), axis=-1).max() == 0, "the left side is the bare grey image"
    assert np.ptp(right.astype(int), axis=-1).max() > 100, "the right side is coloured"
