"""``unet-studio demo``: a real image, the bundled model, a result to look at."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from unet_studio.cli.console import say, warn
from unet_studio.cli.segment import segment_file
from unet_studio.recipe import Recipe

SAMPLE = "nuclei_fluorescence"


def demo_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path(
        "demo-output"
    ),
    headless: Annotated[
        bool, typer.Option("--headless", help="Do not open napari, even where it could be.")
    ] = False,
) -> None:
    """Segment a sample image with the bundled model, and show the result in napari."""
    from unet_studio.images.readers import read_image
    from unet_studio.images.writers import labels_path
    from unet_studio.models.model import load_model
    from unet_studio.models.store import DEFAULT_MODEL
    from unet_studio.objects.overlay import write_overlay
    from unet_studio.samples import sample_path

    source = sample_path(SAMPLE)
    model = load_model(DEFAULT_MODEL)
    say(f"Image:   {source.name} (real fluorescence microscopy, CC0)")
    say(f"Model:   {model.card.name}, {model.card.parameters:,} parameters, {model.card.licence}")
    target = labels_path(source, output)
    outcome = segment_file(source, target, Recipe(model=DEFAULT_MODEL), model)
    say(f"Found:   {outcome.found}")
    say(f"Time:    {outcome.seconds:.2f} s")
    image = read_image(source).read()
    labels = read_image(outcome.files[0]).read()[0]
    overlay = write_overlay(image, labels, output / f"{source.stem}_overlay.png")
    for what, path in zip(
        ("Labels:", "Table:", "Record:", "Picture:"), (*outcome.files, overlay), strict=True
    ):
        say(f"{what:<9}{path}")
    if headless:
        return
    if reason := _why_no_window():
        say(f"napari is not opened: {reason}")
        return
    say("Opening napari; close its window to end the demo.")
    # A process of its own: Qt stays out of this one, and a crash of the driver
    # can not take the results along.
    command = [sys.executable, "-m", "unet_studio.gui.show", str(source), str(outcome.files[0])]
    if subprocess.run(command, check=False).returncode != 0:
        warn("napari ended with an error; the results above are complete.")


def _why_no_window() -> str | None:
    """Return why napari can not be opened here, or None if it can."""
    if importlib.util.find_spec("napari") is None:
        return "it is not installed; install napari-unet-studio[all]."
    linux = sys.platform.startswith("linux")
    if linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display. Look at the picture instead."
    return None
