"""Dropping a model file on napari opens U-Net Studio with that model chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from unet_studio.errors import ModelError
from unet_studio.gui.messages import notify_error
from unet_studio.models.files import SUFFIX

# napari's sign for "read, and there is no layer to add".
_NO_LAYERS = [(None,)]
Paths = str | Path | list[str | Path]


def get_reader(path: Paths) -> Callable[[Paths], list[Any]] | None:
    """Return a reader if every path is a model file, else None."""
    return read_models if all(p.suffix.lower() == SUFFIX for p in _paths(path)) else None


def read_models(path: Paths) -> list[Any]:
    """Choose a model in the dock widget, opening it if need be.

    A file that can not be used is reported in one notification; raising here
    would make napari add a second, less helpful one.
    """
    import napari

    from unet_studio.gui.commands import open_studio
    from unet_studio.models.files import read_card

    try:
        for one in _paths(path):
            read_card(one)
        viewer = napari.current_viewer()
        if viewer is not None:
            studio = open_studio(viewer)
            for one in _paths(path):
                studio.open_model(one)
    except ModelError as error:
        notify_error(str(error))
    return list(_NO_LAYERS)


def _paths(path: Paths) -> list[Path]:
    return [Path(p) for p in path] if isinstance(path, list | tuple) else [Path(path)]
