"""The labels layer that a run made, and whether it is still ours to change."""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.gui.layers import METADATA_KEY, features_table, labels_layer, unwrap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari.layers import Labels
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from unet_studio.gui.layers import LayerSnapshot

# Up to this size the pixels themselves are compared (5 ms per 16 MiB); above
# it, napari's events are relied upon.
_CHECK_LIMIT = 64 * 2**20


class ResultLayer:
    """Adds results to a viewer, and refreshes the last one while nobody else has touched it.

    napari keeps the undo steps of a layer whose data are exchanged, and would
    replay them onto the new pixels. A layer that was painted on is therefore
    left alone for good: the next result becomes a new layer.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._layer: Labels | None = None
        self._snapshot: LayerSnapshot | None = None
        self._name = ""
        self._touched = False
        self._writing = False
        self._checksum: int | None = None

    @property
    def layer(self) -> Labels | None:
        """The layer of the last result, whatever became of it."""
        return self._layer

    def add(
        self,
        labels: NDArray[np.integer] | list[Any],
        snapshot: LayerSnapshot,
        name: str,
        measurements: Mapping[str, NDArray[Any]],
        record: Mapping[str, Any],
    ) -> Labels:
        """Add a new labels layer exactly on its source.

        Parameters
        ----------
        labels : array of integers, or list of lazy ones
            As for :func:`~unet_studio.gui.layers.labels_layer`.
        snapshot : LayerSnapshot
        name : str
        measurements, record : mapping
        """
        self.release()
        layer = labels_layer(
            labels, snapshot.placement, name, measurements=measurements, metadata=record
        )
        self._viewer.add_layer(layer)
        self._layer, self._snapshot, self._name = layer, snapshot, name
        self._touched = False
        self._checksum = _checksum(layer.data)
        for emitter in (layer.events.paint, layer.events.data):
            emitter.connect(self._on_edit)
        return layer

    def refresh(
        self,
        labels: NDArray[np.integer],
        measurements: Mapping[str, NDArray[Any]],
        record: Mapping[str, Any],
    ) -> Labels | None:
        """Show other labels for the last result: in its layer if untouched, else in a new one."""
        if self._layer is None or self._snapshot is None:
            return None
        if not self.is_ours():
            return self.add(labels, self._snapshot, self._name, measurements, record)
        arranged = self._snapshot.placement.arrange(labels)
        with self._own_writing():
            self._layer.data = arranged
            self._layer.features = features_table(measurements)
            self._layer.metadata = {**self._layer.metadata, METADATA_KEY: dict(record)}
        self._checksum = _checksum(arranged)
        return self._layer

    def in_viewer(self) -> bool:
        """Whether the layer is still there."""
        return any(unwrap(other) is self._layer for other in self._viewer.layers)

    def is_ours(self) -> bool:
        """Whether the layer is still in the viewer, with exactly the pixels we put there."""
        layer = self._layer
        if layer is None or self._touched or not self.in_viewer():
            return False
        return self._checksum is None or _checksum(layer.data) == self._checksum

    def release(self) -> None:
        """Forget the layer; it stays in the viewer."""
        if self._layer is not None:
            for emitter in (self._layer.events.paint, self._layer.events.data):
                emitter.disconnect(self._on_edit)
        self._layer = self._snapshot = self._checksum = None

    @contextmanager
    def _own_writing(self) -> Iterator[None]:
        self._writing = True
        try:
            yield
        finally:
            self._writing = False

    def _on_edit(self, _event: Any = None) -> None:
        if not self._writing:
            self._touched = True


def _checksum(array: Any) -> int | None:
    if not isinstance(array, np.ndarray) or array.nbytes > _CHECK_LIMIT:
        return None
    return zlib.adler32(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
