"""The Refine tab: paint where the model is wrong, train, compare, adopt or go back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from unet_studio.errors import UNetStudioError
from unet_studio.events import Event
from unet_studio.gui.canvas import Canvas
from unet_studio.gui.layouts import stacked
from unet_studio.gui.live_view import visible_view
from unet_studio.gui.look_box import LookBox
from unet_studio.gui.messages import notify_error, notify_warning, tell_failure
from unet_studio.gui.paint_box import PaintBox
from unet_studio.gui.recipe_button import SaveRecipeButton, as_set_up
from unet_studio.gui.refine_desk import RefineDesk
from unet_studio.gui.refine_errands import Errands, looking
from unet_studio.gui.refine_next import NextPlace
from unet_studio.gui.refine_request import Requests
from unet_studio.gui.refine_run import RefineResult, RefineRunner
from unet_studio.gui.train_box import TrainBox
from unet_studio.gui.verdict_card import VerdictCard
from unet_studio.gui.versions_box import VersionsBox
from unet_studio.training.annotations import class_names

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from unet_studio.gui.model_header import ModelHeader

_LIVE_MS = 150


class RefineTab(QWidget):
    """Binds painting, training, comparing and going back to the viewer.

    Parameters
    ----------
    viewer : napari viewer
    header : ModelHeader
    """

    def __init__(self, viewer: Viewer, header: ModelHeader) -> None:
        super().__init__()
        self._viewer, self._header = viewer, header
        self.painting = PaintBox(viewer)
        self.training = TrainBox(viewer.theme)
        self.card = VerdictCard(viewer.theme)
        self.versions = VersionsBox()
        self.look = LookBox(viewer)
        self.overlay, self.shown = self.look.overlay, self.look.shown
        self.desk = RefineDesk(viewer, self)
        self.runner = RefineRunner(self)
        self.errands = Errands(self)
        self.next_place = NextPlace(viewer, self.desk)
        self.requests = Requests(viewer, self.desk)
        self._result: RefineResult | None = None
        self._live = QTimer(self)
        self._live.setInterval(_LIVE_MS)
        self._live.timeout.connect(self._follow)
        self._lay_out()
        self._connect()
        self._on_model()

    # -- what the dock calls --------------------------------------------------

    @property
    def run_button(self) -> Any:
        """The primary button."""
        return self.training.run_button

    @property
    def summary(self) -> Any:
        """What the training says."""
        return self.training.summary

    def run_or_cancel(self) -> None:
        """Do what the primary button does: train, or stop and keep what was learned."""
        if self.runner.running:
            self.runner.stop()
            self._show_state()
        else:
            self._train()

    def choose_layer(self, layer: Image) -> None:
        """Select the image to paint on."""
        self.painting.input.layer_box.set_value(layer)

    def stop_work(self) -> None:
        """Abandon what is going; what is painted is saved."""
        self._live.stop()
        self.errands.stop()
        self.runner.abandon()
        self.desk.flush()
        self._show_state()

    def shut_down(self) -> None:
        """Let go of the viewer for good."""
        self.stop_work()
        self.desk.release()
        self.painting.input.disconnect_viewer()

    def set_theme(self, theme: str) -> None:
        """Follow a change of napari's theme."""
        for part in (self.painting, self.training, self.card):
            part.set_theme(theme)

    # -- building -------------------------------------------------------------

    def _lay_out(self) -> None:
        parts = (self.painting, self.look, self.training, self.card, self.versions)
        stacked(self, *parts, SaveRecipeButton(as_set_up(self._header))).addStretch(1)

    def _connect(self) -> None:
        self._header.changed.connect(self._on_model)
        self.painting.painting_asked.connect(self._paint)
        self.painting.complete_asked.connect(self._complete)
        self.painting.next_asked.connect(self._next)
        self.painting.brush_chosen.connect(self._take_brush)
        self.painting.input.changed.connect(self._on_image)
        self.painting.kind.currentIndexChanged.connect(self._on_image)
        self.look.asked.connect(self._look)
        self.desk.painted.connect(self._on_painted)
        self.desk.failed.connect(notify_error)
        self.desk.changed.connect(self._on_image)
        self.training.asked.connect(self.run_or_cancel)
        self.training.classes.editingFinished.connect(self._on_image)
        self.training.cancel_asked.connect(self._cancel)
        self.runner.started.connect(self._show_state)
        self.runner.progressed.connect(self._on_progress)
        self.runner.warned.connect(notify_warning)
        self.runner.succeeded.connect(self._on_success)
        self.runner.failed.connect(self._on_failure)
        self.runner.cancelled.connect(self._on_cancelled)
        self.runner.ended.connect(self._show_state)
        self.errands.failed.connect(self._on_failure)
        self.errands.busy_changed.connect(self._show_state)
        self.card.adopted.connect(self._adopt)
        self.card.declined.connect(self._keep_old)
        self.card.swiped.connect(self.look.swipe)
        self.versions.reverted.connect(self._revert)
        self.versions.chosen.connect(self._use)

    # -- painting -------------------------------------------------------------

    def canvas(self) -> Canvas | None:
        """Return the layer that the chosen image is annotated in, None if there is none."""
        return self.desk.find(self.painting.input.value(), self.painting.kind_chosen())

    def _paint(self) -> None:
        choice = self.painting.input.value()
        if choice is None:
            return
        try:
            canvas, told = self.desk.open(choice, self.painting.kind_chosen())
        except (UNetStudioError, MemoryError) as error:
            return self._on_failure(str(error) or "There is not enough memory for a layer.")
        self._take_brush(2 if canvas.kind == "classes" else 0)
        self._show_versions()
        self._tell_painted(told)

    def _complete(self) -> None:
        canvas = self.canvas()
        if canvas is not None:
            self.desk.rectangles(canvas)
            self._viewer.status = "Draw rectangles in which everything is painted."

    def _take_brush(self, label: int) -> None:
        canvas = self.canvas()
        if canvas is None:
            return
        layer = canvas.labels
        self._viewer.layers.selection.active = layer
        if label < 0:
            layer.mode = "erase"
            return
        try:
            layer.selected_label = label or self.desk.free_number(canvas)
        except UNetStudioError as error:
            return self._on_failure(str(error))
        layer.mode = "paint"

    def _on_painted(self, _canvas: Canvas) -> None:
        self._tell_painted()
        if not self.runner.running:
            return
        now = []
        for canvas in self.requests.learning:
            known = self.desk.known(canvas)
            if known is None:
                return
            now.append(known)
        self.runner.repaint(now)

    def _tell_painted(self, told: str = "") -> None:
        known = [k for c in self.desk.canvases if (k := self.desk.known(c)) is not None]
        pixels, images = sum(map(len, known)), sum(1 for k in known if len(k) or k.complete)
        if pixels or images:
            where = f" on {images} images" if images > 1 else ""
            told = f"{pixels:,} pixels painted{where}, saved.\n{told}".strip()
        elif self.desk.canvases:
            told = told or "Paint some background and some of what is to be found."
        self.painting.notice.show_message("info", told)
        self._show_state()

    def _next(self) -> None:
        model = self._header.value()
        if model is None:
            return
        try:
            steps = self.next_place.steps(model.entry.path, self.painting.input.value())
        except UNetStudioError as error:
            return self._on_failure(str(error))
        self._viewer.status = "Looking for a place to paint …"
        self.errands.start(steps, "Looking for a place to paint", self._on_next)

    def _on_next(self, suggestion: Any) -> None:
        told = self.next_place.go(suggestion)
        self._viewer.status = told
        if suggestion is None:
            self.painting.notice.show_message("info", told)
        elif self.look.wanted:
            self._look()

    # -- training -------------------------------------------------------------

    def _train(self) -> None:
        model = self._header.value()
        if model is None:
            return
        choice = self.painting.input.value()
        channels = None if choice is None else choice.channels
        try:
            request = self.requests.make(
                model, self.training, channels, self.canvas(), self._result
            )
        except (UNetStudioError, MemoryError) as error:
            return self._on_failure(str(error) or "There is not enough memory to train.")
        self.overlay.clear()
        self.errands.stop()
        self.look.begin()
        self.training.begin()
        self.runner.start(request)
        self._live.start()

    def _follow(self) -> None:
        """Tell the training what is on the screen, and show what it found there."""
        request = self.runner.request
        if request is None:
            self._live.stop()
            return
        if self.requests.learning:
            view = self.requests.view(self.canvas(), request.live.card)
            request.live.want(view if self.look.wanted else None)
        glimpse = request.live.take()
        if glimpse is not None and glimpse.view.exercise < len(self.requests.learning):
            self.overlay.show(self.requests.learning[glimpse.view.exercise], glimpse)

    def _cancel(self) -> None:
        self.runner.cancel()
        self._show_state()

    def _on_progress(self, event: Event) -> None:
        if not self.runner.ending:
            self.training.show_event(event)
        self._show_state()

    def _on_success(self, result: RefineResult) -> None:
        self._result = result
        training = result.refined.record["refined"]
        self.training.curve.set_curve(result.refined.curve)
        self.training.summary.show_message(
            "info", f"{training['steps']} steps in {training['seconds']:.0f} s."
        )
        self.card.show_result(result)
        self._show_versions()
        if result.after is not None and result.after.view.exercise < len(self.requests.learning):
            self.overlay.swipe = 1.0
            canvas = self.requests.learning[result.after.view.exercise]
            self.overlay.show(canvas, result.after, result.before)

    def _on_failure(self, message: str) -> None:
        tell_failure(self.summary, message)
        self._show_state()

    def _on_cancelled(self) -> None:
        self.training.summary.show_message("info", "Cancelled; nothing was kept.")
        self.overlay.clear()

    # -- deciding -------------------------------------------------------------

    def _adopt(self) -> None:
        result = self._result
        if result is not None:
            self._use(result.version.number)

    def _keep_old(self) -> None:
        self._put_card_away()
        self._viewer.status = "The old model stays; the new one is kept among the versions."

    def _revert(self) -> None:
        session = self.desk.session
        if session is not None and session.versions:
            parent = session.current.parent
            self._use(0 if parent is None else parent)

    def _use(self, number: int) -> None:
        """Make a version the model of the window."""
        session = self.desk.session if self._result is None else self._result.request.session
        assert session is not None
        try:
            session.adopt(number)
            self.requests.choose(self._header, session, number)
        except UNetStudioError as error:
            return self._on_failure(str(error))
        self._put_card_away()
        self._show_versions()
        choice = self._header.value()
        name = "" if choice is None else choice.entry.name
        self._viewer.status = f"The model is now {name}. Segment uses it."

    def _put_card_away(self) -> None:
        self._result = None
        self.overlay.clear()
        self._show_state()

    # -- showing --------------------------------------------------------------

    def _on_model(self) -> None:
        model = self._header.value()
        card = None if model is None else model.entry.card
        self.painting.set_card(card)
        self.training.set_card(card)
        self._on_image()

    def _on_image(self, _value: object = None) -> None:
        if told := self.desk.take_up(self.painting.input.value()):
            self._tell_painted(told)
        canvas, model = self.canvas(), self._header.value()
        self.painting.set_painting(canvas is not None)
        if canvas is not None and model is not None:
            names = self.training.class_names() or class_names(model.entry.card)
            if len(names) == 1:
                names = ("background", *names)
            self.painting.offer_brushes(canvas.kind, names)
        self._show_state()

    def _look(self) -> None:
        """Show what the chosen model finds on the screen."""
        model, canvas = self._header.value(), self.canvas()
        if model is None or canvas is None:
            self.painting.notice.show_message("info", "Press 'Paint on this image' first.")
            return
        try:
            view = visible_view(self._viewer, canvas, 0, model.entry.card)
            pairs = [(canvas.volume(), self.desk.read(canvas))]
        except UNetStudioError as error:
            return self._on_failure(str(error))
        if view is not None:
            steps = looking(model.entry.path, pairs, view, canvas.choice.channels)
            self.overlay.begin()
            self.errands.start(
                steps, "Looking at this part", lambda found: self.overlay.show(canvas, found)
            )

    def _show_versions(self) -> None:
        session = self.desk.session
        try:
            versions = () if session is None else session.versions
            current = session.current.number if session is not None and versions else -1
        except UNetStudioError as error:
            return self._on_failure(str(error))
        self.versions.show_versions(versions, current)

    def _show_state(self) -> None:
        running = self.look.busy = self.runner.running
        possible = bool(self.desk.canvases) and self._header.value() is not None
        self.training.show_state(running, self.runner.ending, possible)
        self.versions.set_busy(running)
        # Cancelled, a training leaves the decision on the one before it.
        self.card.setVisible(self._result is not None and not running)
        has_image = self.painting.input.value() is not None
        self.painting.paint.setEnabled(has_image)
        self.painting.next.setEnabled(has_image and not running and not self.errands.busy)
