"""Open napari with the plugin docked and a result on its image.

    python -m unet_studio.gui.show IMAGE LABELS

The command line starts this in a process of its own, so that it needs no Qt itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.images.readers import read_image

if TYPE_CHECKING:
    from napari import Viewer

    from unet_studio.axes import Axes


def open_result(image_path: Path, labels_path: Path) -> Viewer:
    """Return a viewer that shows an image, its labels, and the plugin beside them.

    Raises
    ------
    UNetStudioError
        If one of the files can not be read.
    """
    import napari

    image, labels = read_image(image_path), read_image(labels_path)
    viewer = napari.Viewer(title=f"{image_path.name} - U-Net Studio")
    pixels = np.asarray(image.array)
    keywords: dict[str, Any] = {"name": image_path.stem, "rgb": image.rgb}
    if not image.rgb:
        low, high = np.percentile(pixels, [1, 99.8])
        keywords["contrast_limits"] = (float(low), float(max(high, low + 1)))
    axes = image.axes.without("C") if image.rgb else image.axes
    viewer.add_image(pixels, **keywords, **placement(axes))
    viewer.add_labels(np.asarray(labels.array), name=labels_path.stem, **placement(labels.axes))
    viewer.window.add_plugin_dock_widget("napari-unet-studio", "U-Net Studio")
    return viewer


def placement(axes: Axes) -> dict[str, Any]:
    """Return napari's keywords for the scale, position, units and names of some axes."""
    return {
        "scale": axes.scale,
        "translate": axes.translate,
        "units": axes.units,
        "axis_labels": tuple(axes.names.lower()),
    }


def main() -> None:
    """Open the two files named on the command line, until the window is closed."""
    import napari

    open_result(Path(sys.argv[1]), Path(sys.argv[2]))
    napari.run()


if __name__ == "__main__":
    main()
