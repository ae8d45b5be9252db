"""Make the screenshots of the documentation from the real window.

Run ``xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py [FOLDER
[NAME ...]]``. Each picture is one function below: it gets a viewer with the dock widget open, and
brings it into the state to be shown. What it returns, if anything, is shown alone.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

from unet_studio.gui.settings import PLUGIN, WIDGET

IMAGES = Path(__file__).parent / "images"
WINDOW = (1500, 940)
# Nuclei of the sample of clusters, (Y, X); and one with a click beside it.
CLICKED = (
    (285, 431), (241, 426), (370, 275), (363, 382), (293, 596), (103, 545), (115, 600), (80, 596),
    (146, 156), (260, 86), (435, 389), (318, 464),
)  # fmt: skip
CORRECTED = ((202, 131), (190, 97))


def wait(condition: Callable[[], bool], seconds: float = 180) -> None:
    """Let the window live until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the window did not get into the state to be shown")
        QApplication.processEvents()
        time.sleep(0.01)


def pause(seconds: float = 0.6) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def segment(viewer, studio, sample: str) -> None:
    """Open a sample and segment it with the model that is chosen."""
    viewer.open_sample(PLUGIN, sample)
    studio.tab.update_forecast()
    studio.tab.run_button.click()
    wait(lambda: not studio.tab.runner.running)
    if studio.tab.summary.severity == "error":
        raise RuntimeError(studio.tab.summary.text())
    viewer.reset_view()


def segment_fluorescence(viewer, studio) -> None:
    """Show a finished run on fluorescence nuclei."""
    segment(viewer, studio, "nuclei_fluorescence")
    viewer.layers[-1].opacity = 0.55


def segment_clusters(viewer, studio) -> None:
    """Show dim and touching nuclei."""
    segment(viewer, studio, "nuclei_clusters")
    viewer.layers[-1].contour = 2


def segment_histology(viewer, studio) -> None:
    """Show stained tissue, in colour, with outlines."""
    segment(viewer, studio, "tissue_histology")
    viewer.layers[-1].contour = 1
    viewer.layers[-1].opacity = 1


def segment_stack(viewer, studio) -> None:
    """Show a stack, segmented plane by plane."""
    segment(viewer, studio, "nuclei_stack")
    viewer.dims.set_current_step(0, 30)
    viewer.layers[-1].contour = 1


def ask_for_axes(viewer, studio) -> None:
    """Show that an image whose axes can not be known is asked about."""
    from unet_studio.samples import read_sample

    viewer.add_image(read_sample("nuclei_stack"), name="unknown order")
    viewer.dims.set_current_step(0, 30)
    studio.tab.update_forecast()


def manage_models(viewer, studio):
    """Show the window that manages models; it alone is the picture."""
    manager = studio.header.open_manager()
    manager.table.select("brain-mri")
    return manager


def new_model(viewer, studio):
    """Show the window that makes a new model; it alone is the picture."""
    dialog = studio.header.open_manager().open_new()
    dialog.family.setCurrentText("EfficientNet")
    dialog.encoder.setCurrentText("efficientnet-b3")
    dialog.weights.setCurrentIndex(1)
    dialog.channels.setValue(4)
    return dialog


def batch(viewer, studio) -> None:
    """Show a batch that has ended, one image that failed among it, and a result."""
    import numpy as np
    import tifffile

    from unet_studio.samples import read_sample

    sample, chance = np.asarray(read_sample("nuclei_fluorescence")), np.random.default_rng(1)
    os.chdir(tempfile.mkdtemp())  # names of temporary folders stay out of the picture
    folder = Path("plate 3")
    folder.mkdir()
    for number in range(11):
        y, x = (int(chance.integers(0, n - 239)) for n in sample.shape)
        path = folder / f"B{number + 2:02}.tif"
        crop = sample[y : y + 240, x : x + 240]
        tifffile.imwrite(path, crop, imagej=True, resolution=(2.5, 2.5), metadata={"unit": "um"})
    (folder / "C01.tif").write_bytes(b"<html>log in</html>")
    titles = [studio.tabs.tabText(i) for i in range(studio.tabs.count())]
    studio.tabs.setCurrentIndex(titles.index("Batch"))
    tab = studio.tab
    tab.form.add([folder])
    tab.look()
    wait(lambda: not tab.looker.running)
    tab.run_button.click()
    wait(lambda: not tab.batch.running)
    tab.table.selectRow(2)
    tab.open_row(tab.table.current())
    wait(lambda: tab.job is None)
    viewer.layers[-1].opacity = 0.55


# Row, column, rows, columns of strokes on the bright field sample: what is a cell, what not.
CELL = ((330, 250, 22, 8), (70, 360, 8, 30), (215, 505, 18, 6))
GLASS = ((60, 230, 6, 60), (400, 80, 6, 70))


def paint_cells(viewer, studio) -> None:
    """Show five strokes on the bright field sample, and how the tab looks before training."""
    viewer.open_sample(PLUGIN, "cells_brightfield")
    titles = [studio.tabs.tabText(i) for i in range(studio.tabs.count())]
    studio.tabs.setCurrentIndex(titles.index("Refine"))
    tab = studio.tab
    tab.training.classes.setText("cell")
    tab.training.classes.editingFinished.emit()
    tab.painting.paint.click()
    layer = viewer.layers.selection.active
    for label, strokes in ((1, GLASS), (2, CELL)):
        for row, column, rows, columns in strokes:
            for step in range(max(rows, columns)):
                along = step / max(rows, columns)
                layer.paint((row + along * rows, column + along * columns), label)
    viewer.reset_view()
    wait(lambda: not tab.desk.saving())


def refine_1_paint(viewer, studio) -> None:
    """Show five strokes."""
    paint_cells(viewer, studio)


def refine_2_train(viewer, studio) -> None:
    """Show a training that is half done, with what it finds so far."""
    paint_cells(viewer, studio)
    studio.tab.training.seconds.setValue(120)
    studio.tab.run_button.click()
    tab = studio.tab
    wait(lambda: len(tab.training.curve.losses) > 20 and tab.overlay.layer is not None, 600)


def refine_3_compare(viewer, studio) -> None:
    """Show what came of a minute of training."""
    paint_cells(viewer, studio)
    studio.tab.training.seconds.setValue(60)
    studio.tab.run_button.click()
    wait(lambda: not studio.tab.runner.running, 600)
    if studio.tab.summary.severity == "error":
        raise RuntimeError(studio.tab.summary.text())


def click(viewer, studio) -> None:
    """Show nuclei that were clicked, and one that is being corrected."""
    viewer.open_sample(PLUGIN, "nuclei_clusters")
    titles = [studio.tabs.tabText(i) for i in range(studio.tabs.count())]
    studio.tabs.setCurrentIndex(titles.index("Click"))
    studio.tab.run_button.click()
    clicking = studio.tab.clicking
    wait(lambda: not clicking.desk.busy)
    for place in CLICKED:
        clicking.actions.click(place)
        clicking.actions.commit()
    wait(lambda: not clicking.desk.busy)
    clicking.actions.click(CORRECTED[0])
    clicking.actions.click(CORRECTED[1], positive=False)
    wait(lambda: not clicking.desk.busy)
    viewer.layers["nuclei clusters · clicked"].contour = 2
    viewer.reset_view()


def warm_up() -> None:
    """Import torch and let it be tried out what is fastest: times shown are of a second run."""
    from unet_studio import segment as run
    from unet_studio.samples import read_sample

    run(read_sample("nuclei_fluorescence"), "nuclei")


PICTURES = (
    segment_fluorescence, segment_clusters, segment_histology, segment_stack, ask_for_axes,
    manage_models, new_model, click, batch, refine_1_paint, refine_2_train, refine_3_compare,
)  # fmt: skip


def main(folder: Path = IMAGES, only: Sequence[str] = ()) -> None:
    """Make every picture, or those that are named."""
    folder.mkdir(parents=True, exist_ok=True)
    # Strokes and models of whoever runs this stay out of the pictures.
    os.environ["UNET_STUDIO_HOME"] = warm = tempfile.mkdtemp()
    warm_up()
    for picture in PICTURES:
        if only and picture.__name__ not in only:
            continue
        # Nor do strokes of one picture come into the next.
        os.environ["UNET_STUDIO_HOME"] = str(
            shutil.copytree(warm, Path(tempfile.mkdtemp()) / "home")
        )
        viewer = napari.Viewer(show=True)
        viewer.window.resize(*WINDOW)
        _, studio = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
        studio.header.select("nuclei")
        shown = picture(viewer, studio)
        viewer.status = viewer.help = ""  # napari prints one over the other
        pause()
        path = folder / f"{picture.__name__}.png"
        if shown is None:
            viewer.screenshot(path, canvas_only=False, flash=False)
        else:
            shown.grab().save(str(path))
        if picture is batch:
            sheet = studio.tab.form.output / "contact_sheet.png"
            (folder / sheet.name).write_bytes(sheet.read_bytes())
        notice = studio.tab.summary
        told = notice.text() or getattr(studio.tab, "forecast", notice).text()
        print(f"{path}: {told}")
        viewer.close()


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]), only=sys.argv[2:])
