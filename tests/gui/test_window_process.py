"""A whole session in a process of its own, as a user has it: window first, torch after."""

from __future__ import annotations

import subprocess
import sys
import textwrap

SESSION = textwrap.dedent(
    """
    import sys, time
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    viewer.open_sample("napari-unet-studio", "nuclei_fluorescence")
    for _ in range(20):
        QApplication.processEvents()
        time.sleep(0.01)
    _, studio = viewer.window.add_plugin_dock_widget("napari-unet-studio", "U-Net Studio")
    studio.open_model(MODEL)
    studio.tab.update_forecast()
    assert "torch" not in sys.modules
    studio.tab.run_button.click()
    while studio.tab.runner.running:
        QApplication.processEvents()
        time.sleep(0.01)
    assert "torch" in sys.modules
    import torch._dynamo  # imports triton where it can
    print("LAYERS", len(viewer.layers), studio.tab.summary.text())
    viewer.close()
    """
)


def test_a_window_that_was_drawn_survives_the_import_of_torch(tiny_model):
    """Mesa's LLVM and triton's LLVM in one process end it: see unet_studio/gui/graphics.py."""
    done = subprocess.run(
        [sys.executable, "-c", SESSION.replace("MODEL", repr(str(tiny_model)))],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "LAYERS 2" in done.stdout
