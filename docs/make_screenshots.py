"""Make the screenshots of the documentation from the real window.

Run ``xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py [FOLDER]``.
Each picture is one function below: it gets a viewer with the dock widget open, and
brings it into the state to be shown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

from unet_studio.gui.settings import PLUGIN, WIDGET

IMAGES = Path(__file__).parent / "images"
WINDOW = (1500, 940)


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


def warm_up() -> None:
    """Import torch first: the times shown are then those of a second run."""
    import numpy as np

    from unet_studio import segment as run

    run(np.zeros((64, 64), np.uint8), "nuclei")


PICTURES = (
    segment_fluorescence, segment_clusters, segment_histology, segment_stack, ask_for_axes
)  # fmt: skip


def main(folder: Path = IMAGES) -> None:
    """Make every picture."""
    folder.mkdir(parents=True, exist_ok=True)
    warm_up()
    for picture in PICTURES:
        viewer = napari.Viewer(show=True)
        viewer.window.resize(*WINDOW)
        _, studio = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
        studio.header.select("nuclei")
        picture(viewer, studio)
        viewer.status = viewer.help = ""  # napari prints one over the other
        pause()
        path = folder / f"{picture.__name__}.png"
        viewer.screenshot(path, canvas_only=False, flash=False)
        print(f"{path}: {studio.tab.summary.text() or studio.tab.forecast.text()}")
        viewer.close()


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
