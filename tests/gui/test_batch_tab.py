"""The Batch tab in a real window, with the real process behind it where that matters."""

from __future__ import annotations

import csv
import sys
import textwrap
import time

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

BROKEN = "broken.tif"


@pytest.fixture
def images(tmp_path, blob_image):
    folder = tmp_path / "plate 3 – ü"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.tif", "b.tif", "sub/c.tif")):
        tifffile.imwrite(
            folder / name, blob_image((64, 80), number), imagej=True, resolution=(4, 2),
            metadata={"unit": "um"},
        )  # fmt: skip
    (folder / BROKEN).write_bytes(b"<html>log in</html>")
    return folder


@pytest.fixture
def open_batch(open_studio, qtbot):
    """Open the window with the Batch tab in front: ``viewer, tab = open_batch()``."""

    def open_it():
        viewer, studio = open_studio(show=True)
        titles = [studio.tabs.tabText(i) for i in range(studio.tabs.count())]
        studio.tabs.setCurrentIndex(titles.index("Batch"))
        return viewer, studio, studio.tab

    return open_it


@pytest.fixture
def looked(qtbot):
    """Choose inputs and wait until they have been looked at."""

    def look(tab, *paths):
        tab.form.add(paths)
        tab.look()
        qtbot.waitUntil(lambda: not tab.looker.running, timeout=120_000)

    return look


def states(tab):
    return {row.name: row.state for row in tab.table.rows_model.rows()}


def test_a_folder_is_looked_at_run_and_its_results_are_opened(
    open_batch, looked, images, tmp_path, tiny_model, qtbot
):
    viewer, studio, tab = open_batch()
    studio.tabs.widget(0).objects.options_form().editor("min_size").setValue(3)
    looked(tab, images)
    assert states(tab) == {
        "a.tif": "waiting", "b.tif": "waiting", BROKEN: "problem", "sub/c.tif": "waiting",
    }  # fmt: skip
    assert "4 images, 1 that can not be done" in tab.forecast.text()
    out = images.with_name(images.name + "_segmented")
    assert str(out) in tab.forecast.text()
    assert not out.exists(), "looking writes nothing"

    tab.run_button.click()
    assert tab.run_button.text() == "Cancel"
    assert not tab.form.isEnabled()
    qtbot.waitUntil(lambda: not tab.batch.running, timeout=120_000)
    assert states(tab) == {
        "a.tif": "done", "b.tif": "done", BROKEN: "failed", "sub/c.tif": "done",
    }  # fmt: skip
    assert "3 of 4 complete" in tab.summary.text()
    assert "1 image failed; its row says why." in tab.summary.text()
    assert tab.run_button.text() == "Resume batch"
    assert tab.form.isEnabled()

    rows = {row.name: row for row in tab.table.rows_model.rows()}
    tab.table.selectRow(list(rows).index(BROKEN))
    assert tab.detail.severity == "error"
    assert "broken.tif" in tab.detail.text()
    assert not tab.open_button.isEnabled()
    model = tab.table.rows_model
    icon = model.data(model.index(list(rows).index("b.tif"), 0), 1)  # the decoration
    assert not icon.isNull()
    assert (out / "contact_sheet.png").is_file()

    tab.table.doubleClicked.emit(model.index(list(rows).index("sub/c.tif"), 0))
    qtbot.waitUntil(lambda: tab.job is None and len(viewer.layers) == 2, timeout=60_000)
    image, labels = viewer.layers
    assert np.array_equal(image.data, tifffile.imread(images / "sub" / "c.tif"))
    written = tifffile.imread(out / "sub" / "c_labels.tif")
    assert np.array_equal(labels.data, written)
    np.testing.assert_allclose(labels.scale, (0.5, 0.25))
    np.testing.assert_allclose(image.scale, labels.scale)
    assert image.units == labels.units
    assert len(labels.features) == written.max() == rows["sub/c.tif"].objects

    # The Segment tab, the command line and the batch give the same labels.
    from unet_studio import load_recipe, run_batch, segment
    from unet_studio.cli.app import app

    recipe = tmp_path / "r.toml"
    from unet_studio.batch.recipe_file import save_recipe

    save_recipe(studio.header.recipe(), recipe)
    values = load_recipe(recipe).model_dump(exclude={"model", "axes", "version"})
    again = segment(images / "sub" / "c.tif", str(tiny_model), **values)
    assert np.array_equal(again.labels, written)
    by_api, by_command = tmp_path / "api", tmp_path / "command"
    assert run_batch(recipe, [images / "a.tif"], by_api).done == 1
    arguments = ["batch", str(recipe), str(images / "a.tif"), "-o", str(by_command)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    for other in (by_api, by_command):
        assert (other / "a_labels.tif").read_bytes() == (out / "a_labels.tif").read_bytes()
    tab.table.doubleClicked.emit(model.index(list(rows).index("sub/c.tif"), 0))
    qtbot.waitUntil(lambda: tab.job is None, timeout=60_000)
    assert len(viewer.layers) == 2, "opened once only"

    # With other settings the results are those of the run all the same.
    tab.form.probabilities.setChecked(True)
    looked(tab)
    after = {row.name: row for row in tab.table.rows_model.rows()}
    there = {name: row for name, row in after.items() if row.state == "there"}
    assert set(there) == {"a.tif", "b.tif", "sub/c.tif"}
    for name, row in there.items():
        known = rows[name]
        assert row.openable
        assert (row.labels, row.table, row.overlay) == (known.labels, known.table, known.overlay)
        assert (row.objects, row.sizes, row.unit) == (known.objects, known.sizes, known.unit)
    assert tab.plot_button.isEnabled()
    tab.table.selectRow(list(after).index("b.tif"))
    assert tab.open_button.isEnabled()


def test_cancel_resume_and_closing_lose_nothing(open_batch, looked, tmp_path, blob_image, qtbot):
    from unet_studio import run_batch
    from unet_studio.batch.recipe_file import save_recipe

    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        tifffile.imwrite(folder / f"{number:03}.tif", blob_image((256, 256), number))
    viewer, studio, tab = open_batch()
    looked(tab, folder)
    recipe = save_recipe(studio.header.recipe(), tmp_path / "r.toml")
    tab.run_button.click()
    qtbot.waitUntil(lambda: "done" in states(tab).values(), timeout=120_000)
    tab.run_button.click()
    assert tab.run_button.text() == "Cancelling …"
    qtbot.waitUntil(lambda: not tab.batch.running, timeout=30_000)
    done = list(states(tab).values()).count("done")
    assert 0 < done < 40
    assert f"Cancelled: {done} of 40 complete" in tab.summary.text()
    assert tab.run_button.text() == "Resume batch"

    # With a layer, the Segment tab says by name what it left to the model before.
    tab.open_row(next(row for row in tab.table.rows_model.rows() if row.state == "done"))
    qtbot.waitUntil(lambda: tab.job is None and len(viewer.layers) == 2, timeout=60_000)
    assert studio.header.recipe().flips is not None
    tab.run_button.click()
    more = done + 1
    qtbot.waitUntil(
        lambda: sum(s in ("done", "skipped") for s in states(tab).values()) > more, timeout=120_000
    )
    assert list(states(tab).values()).count("skipped") >= done, "none is done twice"
    process = tab.batch._process
    studio.shut_down()  # what closing the dock and the window do
    assert process.state() == process.ProcessState.NotRunning
    report = run_batch(recipe, [folder], tab.form.output, overlays=True)
    assert report.ok
    assert report.skipped > done
    assert report.done + report.skipped == 40
    assert not [p for p in tab.form.output.iterdir() if ".partial-" in p.name]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; print('boom', file=sys.stderr); sys.exit(3)", r"code 3 \(boom\)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended unexpectedly"),
        ('print(\'{"event": "error", "reason": "No such model."}\')', "No such model"),
    ],
)
def test_a_process_that_dies_is_told_of_once(
    open_batch, images, notifications, qtbot, script, said
):
    import re

    from unet_studio.gui.batch_process import BatchProcess

    _, _, tab = open_batch()
    tab.form.add([images])
    tab._timer.stop()
    other = BatchProcess(tab, (sys.executable, "-c", textwrap.dedent(script)))
    other.told.connect(tab._on_told)
    other.ended.connect(tab._on_ended)
    tab.batch = other
    tab.run_button.click()
    qtbot.waitUntil(lambda: not tab.batch.running, timeout=60_000)
    assert tab.summary.severity == "error"
    assert re.search(said, tab.summary.text()), tab.summary.text()
    assert len(notifications()) == 1
    assert tab.run_button.isEnabled()
    assert tab.form.isEnabled()


def test_what_is_missing_is_said(open_batch, looked, images, tmp_path, qtbot):
    _, _, tab = open_batch()
    tab.look()
    assert not tab.run_button.isEnabled()
    assert "Add a folder or files" in tab.forecast.text()
    (tmp_path / "wrong.toml").write_text('model = "m"\n[tiling]\ntil = 1\n')
    tab.form.set_recipe_file(tmp_path / "wrong.toml")
    looked(tab, images)
    assert "tiling.til (line 3)" in tab.forecast.text()
    assert tab.forecast.severity == "warning"


def test_the_segment_tab_saves_what_it_is_set_to(open_batch, tmp_path, notifications, blob_image):
    from unet_studio import load_recipe
    from unet_studio.gui.recipe_button import SaveRecipeButton

    viewer, studio, _ = open_batch()
    segment_tab = studio.tabs.widget(0)
    button = segment_tab.findChild(SaveRecipeButton)
    segment_tab.objects.options_form().editor("min_size").setValue(17)
    button.save(tmp_path / "r.toml")
    recipe = load_recipe(tmp_path / "r.toml")
    assert recipe.objects.options["min_size"] == 17
    assert recipe.axes is None
    assert str(tmp_path / "r.toml") in notifications()[-1][1]
    viewer.add_image(blob_image((3, 64, 80)), name="movie")
    segment_tab.input.axes_box.setCurrentIndex(segment_tab.input.axes_box.findData("TYX"))
    button.save(tmp_path / "r.toml")
    assert load_recipe(tmp_path / "r.toml").axes == "TYX", "chosen by the user, so it counts"
    named = {studio.tabs.tabText(i): studio.tabs.widget(i) for i in range(studio.tabs.count())}
    for name in ("Refine", "Batch"):
        named[name].findChild(SaveRecipeButton).save(tmp_path / f"{name}.toml")
        assert load_recipe(tmp_path / f"{name}.toml") == load_recipe(tmp_path / "r.toml")
    (tmp_path / "other.toml").write_text('model = "nuclei"\n')
    named["Batch"].form.set_recipe_file(tmp_path / "other.toml")
    named["Batch"].findChild(SaveRecipeButton).save(tmp_path / "again.toml")
    assert load_recipe(tmp_path / "again.toml").model == "nuclei", "what the batch would run"
    button.save(tmp_path / "r.toml" / "below a file.toml")
    assert "could not be written" in notifications()[-1][1]


def test_what_was_complete_does_not_count_for_the_time_left(open_batch):
    _, _, tab = open_batch()
    item = {"event": "item", "path": "p", "series": 0, "reason": "", "table": "", "overlay": "",
            "labels": "l", "objects": 1, "seconds": 1.0, "sizes": None, "unit": ""}  # fmt: skip
    tab._began = time.monotonic() - 30
    tab._on_told([{"event": "started", "total": 106}])
    tab._on_told([{**item, "name": f"old {n}", "state": "skipped"} for n in range(100)])
    assert "left" not in tab.summary.text()
    tab._on_told([{**item, "name": f"new {n}", "state": "done"} for n in range(3)])
    assert "103 of 106 · 30 s left" in tab.summary.text()


def test_a_list_of_images_can_be_dropped(open_batch, images):
    from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
    from qtpy.QtGui import QDropEvent

    _, _, tab = open_batch()
    listed = images / "list.txt"
    listed.write_text("a.tif\n", encoding="utf-8")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(p)) for p in (listed, images / "b.tif")])
    tab.form.dropEvent(
        QDropEvent(
            QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )
    )  # fmt: skip
    assert tab.form.paths() == [f"@{listed}", str(images / "b.tif")]


def test_counts_and_sizes_are_drawn_and_exported(open_batch, tmp_path, notifications):
    from unet_studio.gui.batch_plot import left_out, nice_step
    from unet_studio.gui.batch_table import Row

    _, _, tab = open_batch()
    common = {"event": "item", "path": "p", "series": 0, "reason": "", "table": "", "overlay": ""}
    unit = "area [micrometer^2]"
    tab._on_told(
        [
            {"event": "started", "total": 3},
            {**common, "name": "a.tif", "state": "done", "labels": "l", "objects": 7,
             "seconds": 0.5, "sizes": [1.0, 2.0, 4.0], "unit": unit},
            {**common, "name": "b.tif", "state": "skipped", "labels": "l", "objects": 0,
             "seconds": 0.0, "sizes": None, "unit": ""},
            {**common, "name": "c.tif", "state": "failed", "labels": "", "objects": 0,
             "seconds": 0.0, "sizes": None, "unit": "", "reason": "No image."},
        ]
    )  # fmt: skip
    window = tab.open_plot()
    assert left_out(tab.table.rows_model.rows(), unit) == ""
    pixels = Row("d.tif", sizes=(1.0, 2.0, 3.0), unit="area")
    assert "1 in another unit" in left_out([*tab.table.rows_model.rows(), pixels], unit)
    window.save_png(tmp_path / "p.png")
    window.save_csv(tmp_path / "p.csv")
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()))
    assert [r["file"] for r in rows] == ["a.tif", "b.tif", "c.tif"]
    assert rows[0][f"median_{unit}"] == "2.0"
    assert (rows[1]["objects"], rows[2]["objects"]) == ("0", "")
    from PIL import Image

    with Image.open(tmp_path / "p.png") as picture:
        assert np.asarray(picture.convert("RGB")).reshape(-1, 3).std(0).max() > 5
    plot = window.plot
    assert plot.row_at(plot.width() * 0.3).name == "a.tif"
    assert plot.row_at(2) is None
    plot.chosen.emit(plot.row_at(plot.width() * 0.8))
    assert tab.table.current().name == "b.tif"
    window.save_csv(tmp_path / "p.png" / "x.csv")
    assert "could not be written" in notifications()[-1][1]
    assert [nice_step(v) for v in (0, 0.3, 2, 21, 6e-7)] == [1.0, 0.5, 2.0, 50.0, 1e-06]
