"""Results that go through the disk: whether, where to, and back into the viewer, lazily."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog, QPushButton

from unet_studio.gui.choice_box import check_box
from unet_studio.gui.graphics import block_triton_if_it_would_crash

if TYPE_CHECKING:
    from napari.layers import Layer

    from unet_studio.events import CancelToken, Event
    from unet_studio.gui.input_form import InputForm
    from unet_studio.gui.placement import Placement
    from unet_studio.gui.worker import Steps
    from unet_studio.images.volume import Volume
    from unet_studio.recipe import Recipe
    from unet_studio.streaming_results import StreamedSegmentation

WHY_NO_PREVIEW = (
    "Live preview is off for results that go through the disk: it needs the network's "
    "probabilities in memory, and they are not kept."
)
_LONGEST_STEM = 80
_NONE_YET = "Choose a folder …"


class DiskRows(QObject):
    """Two rows of the image's form: the wish to go through the disk, and the folder.

    Parameters
    ----------
    form : InputForm
        To which the rows are added.
    """

    changed = Signal()

    def __init__(self, form: InputForm) -> None:
        super().__init__(form)
        self._form = form
        self._chosen: Path | None = None
        self._layer: Layer | None = None
        self.box = check_box(
            "Through the disk",
            "Keep intermediate results on the disk and write the labels to an OME-Zarr, for "
            "images that do not fit into memory. Done by itself where memory is short.",
        )
        self.button = QPushButton(_NONE_YET)
        self.button.setAccessibleName("Folder for results")
        form.add_row("Through the disk", self.box)
        form.add_row("Results in", self.button)
        form.show_row(self.button, False)
        self.box.toggled.connect(self._emit)
        self.button.clicked.connect(self.ask)

    @property
    def wanted(self) -> bool:
        """Whether the user asked for it."""
        return self.box.isChecked()

    @property
    def folder(self) -> Path | None:
        """Where results go: what the user chose once, else beside the image's file."""
        if self._chosen is not None and _writable(self._chosen):
            return self._chosen
        return folder_beside(self._layer) if self._layer is not None else None

    def where(self) -> str:
        """Say that the result goes through the disk, why, and where it will be."""
        why = "As chosen" if self.wanted else "Too large for memory"
        folder = self.folder
        where = "a folder that you will be asked for" if folder is None else str(folder)
        return f"{why}: the result goes through the disk, into an OME-Zarr in {where}."

    def show_for(self, layer: Layer | None, streamed: bool) -> None:
        """Show the folder of a layer's result, if it goes through the disk."""
        self._layer = layer
        folder = self.folder
        self.button.setText(_NONE_YET if folder is None else folder.name or str(folder))
        self.button.setToolTip(
            f"{folder or 'No folder yet: you will be asked.'}\nClick to choose another folder."
        )
        self._form.show_row(self.button, streamed)

    def ask(self) -> Path | None:
        """Let the user choose a folder; None if they would rather not."""
        start = str(self.folder or Path.home())
        chosen = QFileDialog.getExistingDirectory(
            self.button, "Folder for results that go through the disk", start
        )
        if not chosen:
            return None
        self._chosen = Path(chosen)
        self.changed.emit()
        return self._chosen

    def _emit(self, _checked: bool) -> None:
        self.changed.emit()


def folder_beside(layer: Layer) -> Path | None:
    """Return the folder that a layer's image file lies in, if it can be written to."""
    path = _file_of(layer)
    return path.parent if path is not None and _writable(path.parent) else None


def target_for(layer: Layer, folder: Path) -> Path:
    """Return a name for labels that nothing of an earlier result goes by.

    An older result may be open in the viewer; it is never replaced.
    """
    from unet_studio.images.formats import split_suffix

    path = _file_of(layer)
    stem = split_suffix(path)[0] if path is not None else str(layer.name)
    stem = re.sub(r"[^\w\-. ]+", "_", stem).strip(" .")[:_LONGEST_STEM] or "image"
    there = {path.name.casefold() for path in folder.iterdir()}
    unique, number = stem, 2
    while any(
        name.startswith((f"{unique}_labels.".casefold(), f"{unique}_objects.".casefold()))
        for name in there
    ):
        unique, number = f"{stem}_{number}", number + 1
    return folder / f"{unique}_labels.ome.zarr"


def streamed_steps(volume: Volume, recipe: Recipe, target: Path) -> Steps:
    """Return the work of a run through the disk, for a job's thread."""

    def run(token: CancelToken) -> Generator[Event, None, StreamedSegmentation]:
        block_triton_if_it_would_crash()
        from unet_studio.batch.results import write_tables
        from unet_studio.streaming import segment_to_zarr_steps

        result = yield from segment_to_zarr_steps(volume, recipe, target, token=token)
        source = Path(volume.metadata.get("path", volume.source))
        write_tables(result, target, source, target, None)
        return result

    return run


def lazy_levels(path: Path, stored: str, wanted: str, placement: Placement) -> list[Any]:
    """Return the levels of a label store, finest first, as a labels layer wants them.

    Parameters
    ----------
    path : Path
    stored, wanted : str
        Axes of the store, and of the labels that ``placement`` takes.
    placement : Placement

    Returns
    -------
    list of zarr or dask array
        Nothing is read yet.
    """
    import dask.array as da
    import zarr

    group = zarr.open_group(str(path), mode="r")
    levels: list[Any] = []
    while (name := str(len(levels))) in group:
        levels.append(group[name])
    if stored == wanted and placement.inserted is None:
        return levels
    order = [stored.index(axis) for axis in wanted]
    turned = (da.from_array(level, chunks=level.chunks).transpose(order) for level in levels)
    return [placement.arrange(level) for level in turned]


def _file_of(layer: Layer) -> Path | None:
    """Return the file of a layer, or the folder of the Zarr store that it lies in."""
    source = getattr(layer.source, "path", None)
    if not source:
        return None
    path = Path(source).absolute()
    if not path.exists():
        return None
    stores = [p for p in (path, *path.parents) if p.suffix.lower() == ".zarr"]
    return stores[-1] if stores else path


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK)
