"""Results that do not fit into memory: through the disk, and shown lazily in the window."""

from __future__ import annotations

import json
import time

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Labels

from unet_studio import read_image
from unet_studio.images.zarr_marker import is_complete
from unet_studio.inference import plan as plan_module
from unet_studio.samples import sample_path

FREE = 2**26  # bytes; a small image already needs more than this


def cells(copies=1):
    grey = read_image(sample_path("nuclei_fluorescence")).read()[0]
    return np.tile(grey, (copies, copies))


@pytest.fixture
def short_memory(monkeypatch):
    monkeypatch.setattr(plan_module, "free_memory", lambda device: FREE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that the user picks whenever the dialog asks for one."""
    chosen = tmp_path / "results"
    chosen.mkdir()
    answers(monkeypatch, chosen)
    return chosen


def answers(monkeypatch, answer):
    asked = []

    def dialog(*_):
        asked.append(answer)
        return str(answer or "")

    monkeypatch.setattr(
        "unet_studio.gui.disk.QFileDialog.getExistingDirectory", staticmethod(dialog)
    )
    return asked


def finest(layer):
    """The lazy array behind a layer, of a pyramid its first level."""
    array = layer.data[0] if layer.multiscale else layer.data
    assert isinstance(array, zarr.Array | da.Array)
    assert not layer.editable
    return array


def stores(path):
    return sorted(p.name for p in path.iterdir())


def test_a_result_beyond_memory_is_shown_lazily_and_is_that_in_memory(
    open_studio, run, folder, short_memory, monkeypatch, notifications
):
    viewer, studio = open_studio()
    studio.header.select("nuclei")
    image = cells()
    transform = {"scale": (0.5, 0.25), "translate": (30, -7), "rotate": 20, "units": ("um", "um")}
    source = viewer.add_image(image, name="cells", **transform)
    tab = studio.tab
    tab.update_forecast()
    assert "Too large for memory" in tab.forecast.text()
    assert "a folder that you will be asked for" in tab.forecast.text()
    assert tab.disk.button.isVisibleTo(studio)
    assert not tab.objects.live.isEnabled()
    assert "in memory" in tab.objects.live.toolTip()

    run(studio)
    labels = viewer.layers[-1]
    target = folder / "cells_labels.ome.zarr"
    assert isinstance(labels, Labels)
    assert is_complete(target)
    assert stores(folder) == [
        "cells_labels.ome.zarr", "cells_labels.ome.zarr.json", "cells_objects.csv",
    ]  # fmt: skip
    for corner in ((0, 0), (100, 3), tuple(n - 1 for n in image.shape)):
        np.testing.assert_allclose(labels.data_to_world(corner), source.data_to_world(corner))
    assert labels.units == source.units
    found = np.asarray(finest(labels))
    assert len(labels.features["index"]) == found.max() > 20
    assert str(target) in tab.summary.text()
    assert str(folder) in tab.forecast.text()
    record = json.loads((folder / "cells_labels.ome.zarr.json").read_text())
    assert record["objects"]["count"] == labels.metadata["unet_studio"]["objects"]["count"]

    monkeypatch.setattr(plan_module, "free_memory", lambda device: 2**36)
    tab.update_forecast()
    assert "disk" not in tab.forecast.text()
    assert not tab.disk.button.isVisibleTo(studio)
    assert tab.objects.live.isEnabled()
    run(studio)
    assert isinstance(viewer.layers[-1].data, np.ndarray)
    np.testing.assert_array_equal(viewer.layers[-1].data, found)
    np.testing.assert_array_equal(np.asarray(finest(labels)), found)
    assert not notifications()


def test_what_is_under_the_mouse_is_the_object_there(open_studio, run, folder):
    viewer, studio = open_studio(show=True)
    studio.header.select("nuclei")
    source = viewer.add_image(cells(5)[:200, :1500], name="cells", scale=(2, 2))
    studio.tab.disk.box.setChecked(True)
    run(studio)
    labels = viewer.layers[-1]
    assert labels.multiscale
    found = np.asarray(finest(labels))
    for row, column in np.argwhere(found)[:: np.count_nonzero(found) // 20]:
        value = labels.get_value(source.data_to_world((row, column)), world=True)
        at = value[1] if isinstance(value, tuple) else value
        step = labels.downsample_factors[labels.data_level].astype(int)
        coarse = tuple((np.array((row, column)) // step * step).tolist())
        assert at in (found[row, column], found[coarse])


def test_it_can_be_chosen_and_goes_beside_the_image(open_studio, run, tmp_path, monkeypatch):
    asked = answers(monkeypatch, None)
    path = tmp_path / "nuclei.tif"
    tifffile.imwrite(path, cells())
    viewer, studio = open_studio()
    studio.header.select("nuclei")
    viewer.open(path, plugin="napari")
    tab = studio.tab
    tab.update_forecast()
    assert "disk" not in tab.forecast.text()
    tab.disk.box.setChecked(True)
    tab.update_forecast()
    assert f"As chosen: the result goes through the disk, into an OME-Zarr in {tmp_path}" in (
        tab.forecast.text()
    )
    assert tab.disk.button.text() == tmp_path.name
    for name in ("nuclei_labels.ome.zarr", "nuclei_2_labels.ome.zarr"):
        run(studio)
        assert is_complete(tmp_path / name)
    first, second = (np.asarray(finest(layer)) for layer in viewer.layers[1:])
    np.testing.assert_array_equal(first, second)
    assert not asked


def test_whoever_chooses_no_folder_starts_nothing(open_studio, monkeypatch):
    asked = answers(monkeypatch, None)
    viewer, studio = open_studio()
    viewer.add_image(cells(), name="cells")
    studio.tab.disk.box.setChecked(True)
    studio.tab.update_forecast()
    studio.tab.run_button.click()
    assert asked
    assert not studio.tab.runner.running
    assert len(viewer.layers) == 1


def test_a_folder_that_can_not_be_written_to_is_asked_for_again(
    open_studio, run, folder, tmp_path, monkeypatch
):
    viewer, studio = open_studio()
    viewer.add_image(cells(), name="cells")
    gone = tmp_path / "gone"
    gone.mkdir()
    answers(monkeypatch, gone)
    studio.tab.disk.box.setChecked(True)
    studio.tab.disk.button.click()
    assert studio.tab.disk.folder == gone
    gone.rmdir()
    asked = answers(monkeypatch, folder)
    run(studio)
    assert asked == [folder]
    assert is_complete(folder / "cells_labels.ome.zarr")


def test_movies_are_linked_there_too(open_studio, run, folder, monkeypatch):
    viewer, studio = open_studio()
    studio.header.select("nuclei")
    movie = np.stack([np.roll(cells()[:200, :220], 3 * t, axis=1) for t in range(3)])
    viewer.add_image(movie, name="film", axis_labels=("t", "y", "x"))
    tab = studio.tab
    tab.update_forecast()
    tab.objects.link.setChecked(True)
    tab.disk.box.setChecked(True)
    run(studio)
    streamed = viewer.layers[-1]
    tracks = streamed.metadata["unet_studio"]["objects"]["tracks"]
    assert {"births", "splits", "merges", "ends"} <= set(tracks)
    assert (folder / "film_tracks.csv").exists()
    assert {"first_frame", "last_frame", "parent"} <= set(streamed.features)
    assert streamed.features["last_frame"].max() == 2
    tab.disk.box.setChecked(False)
    run(studio)
    np.testing.assert_array_equal(np.asarray(finest(streamed)), viewer.layers[-1].data)
    assert viewer.layers[-1].metadata["unet_studio"]["objects"]["tracks"] == tracks


@pytest.mark.parametrize(
    ("labels", "shape", "rgb"),
    [(("z", "y", "x"), (3, 60, 50), False), (("y", "c", "x"), (60, 2, 50), False),
     (("x", "y"), (50, 60), False), (("y", "x"), (60, 50, 3), True)],
)  # fmt: skip
def test_every_order_of_axes_lies_on_its_image(open_studio, run, folder, labels, shape, rgb):
    viewer, studio = open_studio()
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    scale = (1.5, 0.5, 0.25)[: len(labels)]
    source = viewer.add_image(image, name="some", axis_labels=labels, scale=scale, rgb=rgb)
    studio.tab.objects._method.setCurrentIndex(studio.tab.objects._method.findData("threshold"))
    results = []
    for through_disk in (True, False):
        studio.tab.disk.box.setChecked(through_disk)
        run(studio)
        results.append(viewer.layers[-1])
    lazy, plain = results
    np.testing.assert_array_equal(np.asarray(finest(lazy)), plain.data)
    for part in ("scale", "translate", "units", "axis_labels"):
        np.testing.assert_array_equal(getattr(lazy, part), getattr(plain, part), err_msg=part)
    if "c" not in labels:
        np.testing.assert_allclose(lazy.extent.world, source.extent.world)


def test_cancel_leaves_nothing_in_the_folder(open_studio, run, folder, monkeypatch, contract):
    from unet_studio.objects import streamed

    plain = streamed.frame_counted

    def slow(*arguments):
        for step in plain(*arguments):
            time.sleep(0.2)  # long enough for a busy window to see it
            yield step
        raise AssertionError("the run was not stopped")

    monkeypatch.setattr("unet_studio.streaming._BLOCK", {2: (64, 64), 3: (2, 64, 64)})
    monkeypatch.setattr(streamed, "frame_counted", slow)
    viewer, studio = open_studio()
    viewer.add_image(cells(2), name="cells")
    tab = studio.tab
    tab.disk.box.setChecked(True)
    contract.watch(viewer)
    said = []

    def stop(_event):
        said.append(tab.summary.text())
        if said[-1].startswith("Making objects: "):
            tab.runner.cancel()

    tab.runner.progressed.connect(stop)
    run(studio)
    assert any("%" in text for text in said)
    assert tab.summary.text() == "Cancelled; nothing was added."
    assert not stores(folder)
    contract.check(studio, messages=0)


def test_cancelled_after_the_end_it_says_what_is_there(open_studio, run, folder, monkeypatch):
    import unet_studio.batch.results as results_module

    viewer, studio = open_studio()
    viewer.add_image(cells(), name="cells")
    studio.tab.disk.box.setChecked(True)
    plain = results_module.write_tables

    def late(*arguments):
        studio.tab.runner._job.token.cancel()
        return plain(*arguments)

    monkeypatch.setattr(results_module, "write_tables", late)
    run(studio)
    assert len(viewer.layers) == 1
    assert f"stays in {folder / 'cells_labels.ome.zarr'}" in studio.tab.summary.text()


def test_a_full_disk_is_said_and_leaves_nothing(
    open_studio, run, folder, monkeypatch, contract, notifications
):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    viewer, studio = open_studio()
    viewer.add_image(cells(), name="cells")
    studio.tab.disk.box.setChecked(True)
    contract.watch(viewer)
    monkeypatch.setattr("unet_studio.streaming_results.write_chunked", full)
    run(studio)
    contract.check(studio, "space|disk")
    assert not stores(folder)
