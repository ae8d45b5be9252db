"""``segment --through-disk``, and the choice to do so unasked."""

import json

import numpy as np
import pytest
import tifffile

from unet_studio import read_image
from unet_studio.cli.app import app
from unet_studio.images.zarr_marker import is_complete
from unet_studio.inference.plan import RunPlan
from unet_studio.samples import sample_path


@pytest.fixture
def image(tmp_path):
    pixels = read_image(sample_path("nuclei_fluorescence")).read()[0]
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, pixels)
    return path


def run(arguments):
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_the_same_labels_in_another_file(tmp_path, image):
    run(["segment", image, "-o", tmp_path / "memory"])
    run(["segment", image, "-o", tmp_path / "disk", "--through-disk", "--probabilities"])
    expected = read_image(tmp_path / "memory" / "cells_labels.tif").read()
    target = tmp_path / "disk" / "cells_labels.ome.zarr"
    np.testing.assert_array_equal(read_image(target).read(), expected)
    assert is_complete(target)
    tables = [(tmp_path / d / "cells_objects.csv").read_text() for d in ("memory", "disk")]
    assert tables[0] == tables[1]
    record = json.loads(next((tmp_path / "disk").glob("*.json")).read_text())
    assert record["outputs"] == [
        "cells_labels.ome.zarr", "cells_objects.csv", "cells_probabilities.ome.zarr",
    ]  # fmt: skip
    assert not [p for p in (tmp_path / "disk").iterdir() if ".partial-" in p.name]


def test_short_memory_leads_there_unasked(tmp_path, image, monkeypatch):
    monkeypatch.setattr(RunPlan, "needs_streaming", property(lambda self: True))
    run(["segment", image, "-o", tmp_path / "out"])
    assert is_complete(tmp_path / "out" / "cells_labels.ome.zarr")


def test_quality_and_precision_are_recorded(tmp_path, image):
    options = ["--quality", "fast", "--precision", "bfloat16"]
    run(["segment", image, "-o", tmp_path / "out", *options])
    record = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert record["recipe"]["tiling"]["quality"] == "fast"
    assert record["precision"] == "bfloat16"


def test_a_wrong_quality_is_refused_before_any_work(tmp_path, image):
    from typer.testing import CliRunner

    result = CliRunner().invoke(
        app, ["segment", str(image), "-o", str(tmp_path), "--quality", "best"]
    )
    assert result.exit_code != 0
    assert "quality" in str(result.output) + str(result.exception)
