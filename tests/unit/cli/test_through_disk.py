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
    options = ["--quality", "fast", "--precision", "bfloat16", "--flips"]
    run(["segment", image, "-o", tmp_path / "out", *options])
    record = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert record["recipe"]["tiling"]["quality"] == "fast"
    assert record["precision"] == "bfloat16"
    assert record["recipe"]["flips"] is True


def test_a_wrong_quality_is_refused_before_any_work(tmp_path, image):
    from typer.testing import CliRunner

    result = CliRunner().invoke(
        app, ["segment", str(image), "-o", str(tmp_path), "--quality", "best"]
    )
    assert result.exit_code != 0
    assert "quality" in str(result.output) + str(result.exception)


def record_of(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_a_result_in_another_family_keeps_its_labels_and_gives_up_the_table(tmp_path, image):
    run(["segment", image, "-o", tmp_path])
    labels = (tmp_path / "cells_labels.tif").read_bytes()
    run(["segment", image, "-o", tmp_path, "--through-disk"])
    assert (tmp_path / "cells_labels.tif").read_bytes() == labels
    assert record_of(tmp_path, "cells_labels.tif")["outputs"] == ["cells_labels.tif"]
    assert "cells_objects.csv" in record_of(tmp_path, "cells_labels.ome.zarr")["outputs"]
    # The labels of both are told from images still.
    (tmp_path / "more").mkdir()
    shown = run(["segment", tmp_path, "-o", tmp_path / "more"])
    assert "cells.tif" in shown.output
    assert "cells_labels" not in "".join(p.stem for p in (tmp_path / "more").glob("*_labels_*"))
    assert len(list((tmp_path / "more").glob("*_objects.csv"))) == 1


def test_a_failed_run_leaves_the_older_result_as_it_was(tmp_path, image, monkeypatch):
    from typer.testing import CliRunner

    arguments = ["segment", str(image), "-o", str(tmp_path / "out"), "--through-disk"]
    run(arguments)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.is_file()}

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("unet_studio.objects.streamed.label_blocks", fail)
    assert CliRunner().invoke(app, arguments).exit_code == 2
    after = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.is_file()}
    assert after == before
    assert is_complete(tmp_path / "out" / "cells_labels.ome.zarr")
