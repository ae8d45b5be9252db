"""The labels layer that clicked objects go to: written inside their boxes, with napari's undo."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.clicks.commit import Change, Edit, grown, holds, next_id
from unet_studio.errors import ClickError
from unet_studio.gui.layers import METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Labels, Layer


def fits(layer: Layer, shape: tuple[int, ...], inserted: int | None) -> bool:
    """Whether objects of an image can be put into a layer.

    Parameters
    ----------
    layer : napari layer
    shape : tuple of int
        Of the image without C.
    inserted : int or None
        Where a labels layer of ours has an axis of length 1 for the channels.
    """
    from napari.layers import Labels

    if not isinstance(layer, Labels) or layer.multiscale or not layer.editable:
        return False
    if is_computed(layer):
        return False
    record = layer.metadata.get(METADATA_KEY)
    if isinstance(record, dict) and (record.get("overlay") or "annotations_of" in record):
        return False
    own = tuple(layer.data.shape)
    return own == shape or (
        inserted is not None and own == (*shape[:inserted], 1, *shape[inserted:])
    )


def is_computed(layer: Layer) -> bool:
    """Whether a layer's pixels are computed when they are read (dask): nothing can be kept."""
    return type(layer.data).__module__.partition(".")[0] == "dask"


class Target:
    """A labels layer that the user chose, or had made, for objects.

    Only what changes is written, and only where the labels are still as they were when
    the change was thought out: whatever the user paints meanwhile stays.

    Parameters
    ----------
    layer : napari labels layer
        That fits.
    shape : tuple of int
    inserted : int or None
        As for :func:`fits`.
    """

    def __init__(self, layer: Labels, shape: tuple[int, ...], inserted: int | None) -> None:
        self._layer = weakref.ref(layer)
        # A layer that fits has either the shape of the image, or a dimension more.
        self._inserted = None if tuple(layer.data.shape) == shape else inserted
        self._highest = -1
        layer.events.paint.connect(self._on_paint)
        layer.events.data.connect(self._on_data)

    @property
    def layer(self) -> Labels | None:
        """The layer, or None if nobody has it any more."""
        return self._layer()

    @property
    def name(self) -> str:
        """Of the layer."""
        layer = self.layer
        return "" if layer is None else str(layer.name)

    def array(self) -> Any:
        """Return the labels in the image's axes without C: the layer's own memory.

        Raises
        ------
        ClickError
            If the layer is gone.
        """
        layer = self.layer
        if layer is None:
            raise ClickError("The labels layer for the objects is gone. Choose another one.")
        if self._inserted is None:
            return layer.data
        return layer.data[(slice(None),) * self._inserted + (0,)]

    def next_id(self) -> int:
        """Return the next free id.

        Labels on the disk are searched once, then what is painted is followed. Those in
        memory are searched each time: scripts change them without telling, and it is quick.
        """
        array = self.array()
        if self._highest < 0 or isinstance(array, np.ndarray):
            self._highest = next_id(array, max(self._highest, 0)) - 1
        return self._highest + 1

    def present(self, edits: Iterable[Edit]) -> set[int]:
        """Return the ids of those objects of edits that are in the labels."""
        array, found = self.array(), set()
        for edit in reversed(list(edits)):
            if edit.what == "commit" and edit.id not in found:
                changes = edit.changes
                if any((np.asarray(array[c.region]) == edit.id).any() for c in changes):
                    found.add(edit.id)
        return found

    def write(self, edit: Edit, *, back: bool = False) -> int:
        """Write an edit as one step of the layer's own undo.

        Parameters
        ----------
        edit : Edit
        back : bool
            Take it out again.

        Returns
        -------
        int
            Pixels that were left alone, because somebody else had changed them.

        Raises
        ------
        ClickError
            If the labels can not be written, or can not hold the id.
        """
        layer = self.layer
        if layer is None:
            raise ClickError("The labels layer for the objects is gone. Choose another one.")
        highest = max((int(c.after.max()) for c in edit.changes if c.after.size), default=0)
        if not back and not holds(layer.data.dtype, highest):
            layer.data = grown(layer.data, highest)
        if not layer.visible:
            # napari writes in the type of the slice that was shown last: it is made anew.
            layer.visible = True
            layer.visible = False
        self._highest = max(self._highest, edit.id) if self._highest >= 0 else -1
        left = 0
        changes = [Change(c.region, c.after, c.before) for c in edit.changes] if back else []
        try:
            with layer.block_history():
                for change in reversed(changes) if back else edit.changes:
                    left += self._write_one(layer, change)
        except (TypeError, ValueError, OSError, NotImplementedError) as error:
            raise ClickError(
                f"The labels {layer.name!r} can not be written to: {error}. Choose another layer."
            ) from error
        return left

    def release(self) -> None:
        """Stop following the layer."""
        if (layer := self.layer) is not None:
            layer.events.paint.disconnect(self._on_paint)
            layer.events.data.disconnect(self._on_data)

    def _write_one(self, layer: Labels, change: Change) -> int:
        now = np.asarray(self.array()[change.region])
        expected = change.changed & (now == change.before)
        left = int(change.changed.sum()) - int(expected.sum())
        safe = Change(change.region, now, np.where(expected, change.after, now))
        indices = list(safe.indices())
        if not len(indices[0]):
            return left
        if self._inserted is not None:
            indices.insert(self._inserted, np.zeros(len(indices[0]), np.intp))
        layer.data_setitem(tuple(indices), safe.values().astype(layer.data.dtype))
        return left

    def _on_paint(self, event: Any) -> None:
        if self._highest < 0:
            return
        for atom in event.value:
            new = atom.new_value if hasattr(atom, "new_value") else atom[2]
            self._highest = max(self._highest, int(np.max(new)) if np.size(new) else 0)

    def _on_data(self, _event: Any = None) -> None:
        self._highest = -1
