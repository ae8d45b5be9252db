"""The image layer that is clicked, and the session on it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.clicks.prompts import pixel_along
from unet_studio.errors import ClickError
from unet_studio.gui.canvas import image_key, record_of
from unet_studio.gui.click_journal import JournalKeeper, journals_folder
from unet_studio.gui.click_state import Setup, State, state_of
from unet_studio.gui.layers import (
    METADATA_KEY,
    labels_layer,
    layer_axes,
    level_shapes,
    unwrap,
    volume_from_layer,
)
from unet_studio.gui.placement import Placement, placement_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Labels
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from unet_studio.clicks.commit import Edit
    from unet_studio.clicks.network import ClickNetwork
    from unet_studio.clicks.session import ClickSession
    from unet_studio.events import CancelToken
    from unet_studio.gui.click_desk import Tell
    from unet_studio.images.volume import Volume

_FOLLOWED = ("scale", "translate", "rotate", "shear", "affine")


class ClickSource:
    """What is clicked: the layer on the window's thread, the session on the desk's.

    Methods that take a token and a function to tell are called on the desk's thread, all
    others on the window's.

    Parameters
    ----------
    setup : Setup

    Raises
    ------
    UNetStudioError
        If the layer can not be read as an image.
    """

    def __init__(self, setup: Setup) -> None:
        layer = unwrap(setup.layer)
        self._setup, self._layer = setup, weakref.ref(layer)
        self._volumes = self._read()
        info = self._volumes[0].info
        self._names = layer_axes(layer, setup.axes)[: int(layer.ndim)]
        self.axes = info.axes.names.replace("C", "")
        self.shape = tuple(info.length(a) for a in self.axes)
        self.placement = self.place_anew()
        self._name = str(layer.name)
        self._session: ClickSession | None = None
        self._network: ClickNetwork | None = None
        self._journal = JournalKeeper(journals_folder())
        self._watchers: tuple[Callable[..., None], Callable[..., None]] | None = None

    @property
    def layer(self) -> Image | None:
        """The image layer, if it still exists."""
        return self._layer()

    @property
    def name(self) -> str:
        """Of the image."""
        layer = self.layer
        if layer is not None:
            self._name = str(layer.name)
        return self._name

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know of network and journal by now.

        Why the network runs on another device than was asked for, and why the journal is not
        kept; mostly nothing.
        """
        network = () if self._network is None else tuple(self._network.notices)
        return (*network, *filter(None, [self._journal.problem]))

    # -- on the desk's thread -----------------------------------------------------

    def open(self, token: CancelToken, tell: Tell) -> tuple[Any, State]:
        """Load the model, and restore a journal if there is one to restore.

        Returns
        -------
        (array or None, State)
            The labels that the journal made.
        """
        from unet_studio.clicks.journal import replay
        from unet_studio.clicks.network import ClickNetwork
        from unet_studio.clicks.session import ClickSession
        from unet_studio.models.click_input import CLICK_CHANNELS

        setup, (first, *coarser) = self._setup, self._volumes
        # Known before it runs: what it gives notice of is told even if nothing else succeeds.
        self._network = network = ClickNetwork(setup.model, setup.device)
        edge = network.spec.edge
        for count in (1, 4):  # so that the first click is not the slowest
            network([np.zeros((CLICK_CHANNELS, edge, edge), np.float32)] * count)
        if setup.journal is not None:
            session = replay(first, setup.journal, network, levels=coarser)
        else:
            session = ClickSession(first, network, channels=setup.channels, levels=coarser)
        self._session = session
        self._journal.write(session.entries)
        return session.labels, state_of(session)

    def ask(
        self, act: Callable[[ClickSession], Any], token: CancelToken, tell: Tell
    ) -> tuple[Any, State]:
        """Do one thing with the session, and note it in the journal."""
        session = self._opened()
        value = act(session)
        self._journal.write(session.entries)
        return value, state_of(session)

    def propagate(
        self, axis: str | None, most: int | None, token: CancelToken, tell: Tell
    ) -> tuple[Any, State]:
        """Follow the object; the planes that were done when it is cancelled stay."""
        session = self._opened()
        steps = session.propagate(axis, before=most, after=most, token=token)
        count = 0
        try:
            while True:
                next(steps)
                count += 1
                tell(count)
        except StopIteration as end:
            found = end.value
        finally:
            self._journal.write(session.entries)  # also of what was done before it failed
        return found, state_of(session)

    def annotations(
        self, labels: Any, edits: Sequence[Edit], token: CancelToken, tell: Tell
    ) -> tuple[NDArray[np.int32], State]:
        """Return :meth:`objects_to_learn`; nothing of the size of the image is done elsewhere."""
        return self.objects_to_learn(labels, edits), state_of(self._opened())

    def take_in(self, token: CancelToken, tell: Tell) -> tuple[Any, State]:
        """Let the session see the pixels that the layer has now."""
        session, (first, *coarser) = self._opened(), self._volumes
        session.renew_image(first, levels=coarser)
        return None, state_of(session)

    def _opened(self) -> ClickSession:
        if self._session is None:
            raise ClickError("The session of clicks could not be opened. Start it again.")
        return self._session

    # -- the layer ----------------------------------------------------------------

    def position(self, world: Sequence[float]) -> tuple[float, ...] | None:
        """Return a place in the world as a position of the image without C."""
        layer = self.layer
        if layer is None:
            return None
        found = np.asarray(layer.world_to_data(world), float)
        return tuple(float(p) for p, a in zip(found, self._names, strict=True) if a != "C")

    def place_anew(self) -> Placement:
        """Return where our layers have to lie now."""
        layer = self.layer
        assert layer is not None
        self.placement = placement_of(layer, self._names, self._volumes[0].info.channels)
        return self.placement

    def watch(self, on_data: Callable[..., None], on_moved: Callable[..., None]) -> None:
        """Follow new pixels and new places of the image."""
        self._watchers = on_data, on_moved
        self._follow("connect")

    def unwatch(self) -> None:
        """Stop following it."""
        self._follow("disconnect")
        self._watchers = None

    def _follow(self, method: str) -> None:
        layer = self.layer
        if layer is None or self._watchers is None:
            return
        on_data, on_moved = self._watchers
        getattr(layer.events.data, method)(on_data)
        for name in _FOLLOWED:
            getattr(getattr(layer.events, name), method)(on_moved)

    def unlike(self) -> str:
        """Take note of new pixels; return why they can not be clicked, if they can not."""
        layer = self.layer
        if layer is None:
            return f"The image {self.name!r} is gone: clicking has stopped."
        before = [volume.info.shape for volume in self._volumes[:1]]
        if level_shapes(layer)[:1] != tuple(before):
            return (
                f"The layer {self.name!r} changed while it was clicked: it now holds an image of "
                "another shape. Clicking has stopped; objects that were committed are in their "
                "labels. Start again to click in the new image."
            )
        self._volumes = self._read()
        return ""

    def _read(self) -> list[Volume]:
        layer, axes = self.layer, self._setup.axes
        assert layer is not None
        count = len(level_shapes(layer))
        return [volume_from_layer(layer, axes, level) for level in range(count)]

    # -- layers that are made -----------------------------------------------------

    def make_labels(self, labels: Any = None) -> Labels:
        """Make a layer for objects, exactly on the image; memory is taken where it is written.

        Raises
        ------
        ClickError
            If there is not enough memory.
        """
        try:
            data = np.zeros(self.shape, np.uint16) if labels is None else labels
        except MemoryError as error:
            raise ClickError(
                f"There is not enough memory for labels of the shape {self.shape}. Open a labels "
                "layer that lies on the disk (zarr), and choose it for the objects."
            ) from error
        return labels_layer(
            data, self.placement, f"{self.name} · clicked", metadata={"clicked": self.name}
        )

    def objects_to_learn(self, labels: Any, edits: Sequence[Edit]) -> NDArray[np.int32]:
        """Return the objects that edits put into labels as annotations of whole objects.

        Memory is taken where they are, as in the layers that are painted on. On any thread.

        Parameters
        ----------
        labels : array of int
            Axes and shape of the image without C.
        edits : sequence of Edit

        Returns
        -------
        array of int32, axes and shape of the labels
            0 not known, 1 background, others are objects.

        Raises
        ------
        ClickError
            If there is no object, or not enough memory.
        """
        from unet_studio.clicks.exporting import write_annotations

        try:
            known = np.zeros(self.shape, np.int32)
        except MemoryError as error:
            raise ClickError(
                f"There is not enough memory for annotations of the shape {self.shape}. Open the "
                "part of the image that has the objects as an image of its own, and click there."
            ) from error
        if not write_annotations(known, labels, edits):
            raise ClickError(
                f"No object of {self.name!r} was committed yet; there is nothing to learn from. "
                "Commit one first."
            )
        return known

    def annotations_layer(self, known: NDArray[np.int32]) -> Labels:
        """Make a layer of :meth:`objects_to_learn`, which becomes its memory.

        Raises
        ------
        ClickError
            If the image is gone.
        """
        layer = self.layer
        if layer is None:
            raise ClickError(
                f"The image {self.name!r} is gone, and with it what to learn from. Open it again, "
                "and commit objects there."
            )
        facts = record_of(layer, image_key(self._volumes[0]), "objects")
        name = f"{self.name} · objects to learn"
        return labels_layer(known, self.placement, name, metadata=facts)


def find_result(
    viewer: Viewer, source: ClickSource, position: Sequence[float], target: Labels | None
) -> tuple[Labels, str, Any] | None:
    """Return the topmost Segment result that has an object at a position.

    Parameters
    ----------
    viewer : napari viewer
    source : ClickSource
    position : sequence of float
        In the image without C.
    target : labels layer or None
        The one that objects go to, if that is a result itself: it comes last.

    Returns
    -------
    (layer, name of the model, labels in the image's axes without C) or None
    """
    from napari.layers import Labels

    pixel = tuple(map(pixel_along, position))
    if not all(0 <= p < n for p, n in zip(pixel, source.shape, strict=True)):
        return None
    found = [unwrap(layer) for layer in reversed(list(viewer.layers))]
    for layer in sorted(found, key=lambda layer: layer is target):
        record = layer.metadata.get(METADATA_KEY)
        if not isinstance(layer, Labels) or not isinstance(record, dict) or "model" not in record:
            continue
        labels = layer.data[0] if layer.multiscale else layer.data
        if labels.ndim == len(source.shape) + 1:
            labels = source.placement.without_channels(labels)
        if tuple(labels.shape) == source.shape and int(np.asarray(labels[pixel])):
            return layer, str(record["model"]), labels
    return None
