"""From what the window shows to what a refinement works from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unet_studio.errors import AnnotationError
from unet_studio.gui.canvas import Canvas
from unet_studio.gui.live_view import LiveView, visible_view
from unet_studio.gui.refine_desk import RefineDesk, version_of
from unet_studio.gui.refine_run import RefineRequest, RefineResult
from unet_studio.models.files import read_card
from unet_studio.training.annotations import check_annotations

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from unet_studio.gui.model_header import ModelChoice, ModelHeader
    from unet_studio.gui.train_box import TrainBox
    from unet_studio.models.card import ModelCard
    from unet_studio.training.glimpse import View
    from unet_studio.training.session import Session


class Requests:
    """Makes requests, and knows which model a session began with.

    Parameters
    ----------
    viewer : napari viewer
    desk : RefineDesk
    """

    def __init__(self, viewer: Viewer, desk: RefineDesk) -> None:
        self._viewer, self._desk = viewer, desk
        self._origin: Path | None = None
        self.learning: list[Canvas] = []

    def make(
        self, model: ModelChoice, training: TrainBox, channels: tuple[int, ...] | None,
        shown: Canvas | None, undecided: RefineResult | None = None,
    ) -> RefineRequest:  # fmt: skip
        """Fix everything that a refinement needs.

        With ``undecided``, a result that was neither adopted nor put aside, that is what was
        painted on; else the chosen model's.

        Raises
        ------
        UNetStudioError
            If nothing can be learned from what is painted.
        """
        used = [(c, a) for c, a in self._desk.read_all() if len(a) or a.complete]
        if not used:
            raise AnnotationError(
                "Nothing is painted yet. Press 'Paint on this image', then paint some background "
                "and some of what is to be found."
            )
        entry, classes = model.entry, training.class_names()
        if classes is None:
            check_annotations([a for _, a in used], entry.card)
        session, version = self._session(entry.path, entry.name)
        going_on = training.start.currentData() == "current"
        pairs = tuple((c.volume(), a) for c, a in used)
        self.learning = [c for c, _ in used]
        parent = version if going_on else 0
        seen = version
        if undecided is not None and undecided.request.session.folder == session.folder:
            seen = undecided.version.number
        number = 1 + max((v.number for v in session.versions), default=0)
        return RefineRequest(
            pairs, session, entry.path, parent, seen if seen != parent else None, classes,
            channels, float(training.seconds.value()), model.device,
            f"{entry.name.split(' refined ')[0]} refined {number}",
            LiveView(entry.card), self.view(shown, entry.card),
        )  # fmt: skip

    def view(self, shown: Canvas | None, card: ModelCard) -> View | None:
        """Return what is on the screen of an image that is learned from."""
        if not self.learning:
            return None
        canvas = shown if shown in self.learning else self.learning[0]
        assert canvas is not None
        return visible_view(self._viewer, canvas, self.learning.index(canvas), card)

    def choose(self, header: ModelHeader, session: Session, number: int) -> None:
        """Choose a version as the model of the window; of the base, the file it came from.

        Raises
        ------
        UNetStudioError
        """
        path, origin = session.path(number), self._origin
        if number == 0 and origin is not None and origin.exists() and session.began_with(origin):
            if not header.choose(origin):
                header.open_file(origin)
        else:
            header.open_file(path, read_card(path).name)

    def _session(self, path: Path, name: str) -> tuple[Session, int]:
        """Return the session that a model is refined in, and which of its versions it is."""
        session = self._desk.session
        version = version_of(session, path)
        if session is None or (
            version is None and session.versions and not session.began_with(path)
        ):
            session, version = self._desk.begin(name), None
        if version is None:
            self._origin = path
        return session, version or 0
