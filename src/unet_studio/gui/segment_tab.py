"""The Segment tab: an image in, a labels layer out, and objects that follow the sliders."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QGroupBox, QWidget

from unet_studio.errors import UNetStudioError
from unet_studio.events import Started, TileDone
from unet_studio.gui.disk import WHY_NO_PREVIEW, DiskRows, lazy_levels, target_for
from unet_studio.gui.input_form import InputForm
from unet_studio.gui.layers import SNAPSHOT_KEYS, stacked_volume, take_snapshot
from unet_studio.gui.layouts import framed, stacked, thin_bar
from unet_studio.gui.messages import notify_warning, tell_failure
from unet_studio.gui.notice import Notice
from unet_studio.gui.objects_form import ObjectsForm
from unet_studio.gui.preview import Preview
from unet_studio.gui.primary_button import CANCEL_TEXT, CANCELLING_TEXT, PrimaryButton
from unet_studio.gui.recipe_button import SaveRecipeButton
from unet_studio.gui.results import ResultLayer
from unet_studio.gui.runs import Runner, RunRequest, RunResult
from unet_studio.gui.segment_recipe import recipe_for_others, recipe_of
from unet_studio.gui.settings import read_settings
from unet_studio.inference.plan import RunPlan, resolve
from unet_studio.pipeline import Segmentation

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from unet_studio.gui.model_header import ModelHeader
    from unet_studio.recipe import Recipe
    from unet_studio.streaming_results import StreamedSegmentation

_FORECAST_MS = 40
_SHORT_UNITS = (
    ("micrometer", "µm"), ("nanometer", "nm"), ("millimeter", "mm"), ("pixel", "px"),
    ("^2", "²"), ("^3", "³"), ("*", " × "),
)  # fmt: skip
RUN_TEXT = "Segment"


class SegmentTab(QWidget):
    """Binds the forms to the runner, the preview and the viewer.

    Parameters
    ----------
    viewer : napari viewer
    header : ModelHeader
    """

    def __init__(self, viewer: Viewer, header: ModelHeader) -> None:
        super().__init__()
        self._viewer, self._header, self._settings = viewer, header, read_settings()
        self.input = InputForm(viewer)
        self.disk = DiskRows(self.input)
        self.objects = ObjectsForm()
        self.objects.live.setChecked(self._settings.live_preview)
        self.forecast = Notice(viewer.theme)
        self.run_button = PrimaryButton(RUN_TEXT, "unet-studio-run", viewer.theme)
        self.bar = thin_bar()
        self.summary = Notice(viewer.theme)
        self.runner = Runner(self)
        self.preview = Preview(self)
        self.result = ResultLayer(viewer)
        self._plan: RunPlan | None = None
        self._streamed = False
        self._previewed: tuple[Any, Image] | None = None
        self._result_was_there = False
        self._clock: tuple[float, int] | None = None
        self._stage = ""
        self._forecast_timer = QTimer(self)
        self._forecast_timer.setSingleShot(True)
        self._forecast_timer.setInterval(_FORECAST_MS)
        self._lay_out()
        self._connect()
        header.recipe = self.recipe
        self._on_model()
        self.update_forecast()

    # -- what the dock calls ------------------------------------------------

    def run_or_cancel(self) -> None:
        """Do what the primary button does: start a run, or stop the one that is going."""
        if self.runner.running:
            self.runner.cancel()
        else:
            self._run()

    def choose_layer(self, layer: Image) -> None:
        """Select the image to segment."""
        self.input.layer_box.set_value(layer)

    def stop_work(self) -> None:
        """Abandon what is going: the window closes."""
        self.runner.abandon()
        self.preview.clear()
        self.summary.show_message("info", "")
        self._show_state()

    def shut_down(self) -> None:
        """Let go of the viewer for good."""
        self.stop_work()
        self._forecast_timer.stop()
        self.result.release()
        self.input.disconnect_viewer()

    def set_theme(self, theme: str) -> None:
        """Follow a change of napari's theme."""
        self.forecast.set_theme(theme)
        self.summary.set_theme(theme)
        self.run_button.set_theme(theme)

    # -- building -------------------------------------------------------------

    def _lay_out(self) -> None:
        self.bar.hide()
        stacked(
            self, framed(QGroupBox("Image"), self.input),
            framed(QGroupBox("Objects"), self.objects), self.forecast, self.run_button, self.bar,
            self.summary, SaveRecipeButton(self.recipe),
        ).addStretch(1)  # fmt: skip

    def _connect(self) -> None:
        self._header.changed.connect(self._on_model)
        self.input.changed.connect(self._forecast_timer.start)
        self.disk.changed.connect(self._forecast_timer.start)
        self.objects.changed.connect(self._on_objects)
        self.objects.live.toggled.connect(self._on_objects)
        self._forecast_timer.timeout.connect(self.update_forecast)
        self.run_button.clicked.connect(self.run_or_cancel)
        self.runner.started.connect(self._show_state)
        self.runner.progressed.connect(self._on_progress)
        self.runner.succeeded.connect(self._on_success)
        self.runner.failed.connect(self._on_failure)
        self.runner.consent_needed.connect(self._header.ask_consent)
        self.runner.cancelled.connect(self._on_cancelled)
        self.runner.ended.connect(self._show_state)
        self.preview.made.connect(self._on_preview)
        self.preview.failed.connect(self._on_failure)

    # -- forecast -------------------------------------------------------------

    def update_forecast(self) -> None:
        """Resolve what the forms say, and show what a run would do or why it can not."""
        self._forecast_timer.stop()
        self._plan = None
        choice, model = self.input.value(), self._header.value()
        timed = streamed = False
        if choice is None:
            self.forecast.show_message("info", "Open an image (File › Open Sample has some).")
        elif model is None:
            self.forecast.show_message("info", "Open a model file, or drop one on the window.")
        else:
            try:
                volume = stacked_volume(choice.layer, choice.further, choice.axes, choice.level)
                timed = "T" in volume.axes
                self.objects.set_timed(timed)  # before the recipe is made
                card, recipe = model.entry.card, self._recipe(volume.axes.names)
                self._plan = resolve(recipe, card, volume.info)
                streamed = self.disk.wanted or self._plan.needs_streaming
                if streamed:
                    self._plan = resolve(recipe, card, volume.info, streamed=True)
            except UNetStudioError as error:
                self.forecast.show_message("warning", str(error))
            else:
                self.input.set_tiled(self._plan.tiles.count > 1)
        self.objects.set_timed(timed)
        self._streamed = streamed
        self.objects.set_live_possible(WHY_NO_PREVIEW if streamed else "")
        self.disk.show_for(choice.layer if choice is not None else None, streamed)
        if self._plan is not None:
            lines = [self._plan.summary(), *self._plan.warnings]
            if streamed:
                lines.append(self.disk.where())
            severity = "warning" if self._plan.warnings else "info"
            self.forecast.show_message(severity, "\n".join(lines))
        self._show_state()

    def _recipe(self, axes: str) -> Recipe:
        choice, model = self.input.value(), self._header.value()
        assert choice is not None
        assert model is not None
        return recipe_of(model, choice, self.objects.value(), self._settings.measure, axes)

    def recipe(self) -> Recipe | None:
        """Return the recipe for other images; None if there is no model."""
        model = self._header.value()
        if model is None:
            return None
        objects, measure = self.objects.value(), read_settings().measure
        return recipe_for_others(model, self.input.value(), objects, measure)

    # -- running --------------------------------------------------------------

    def _run(self) -> None:
        self._settings = read_settings()
        self.update_forecast()
        choice, model, plan = self.input.value(), self._header.value(), self._plan
        if choice is None or model is None or plan is None:
            return
        try:
            target = None
            if self._streamed:
                if (folder := self.disk.folder or self.disk.ask()) is None:
                    return
                target = target_for(choice.layer, folder)
            snapshot = take_snapshot(choice.layer, choice.axes, choice.level, choice.further)
        except (UNetStudioError, OSError, MemoryError) as error:
            message = str(error) or f"There is not enough memory to copy {choice.layer.name!r}."
            return self._on_failure(message)
        self.preview.clear()
        self._previewed = None
        self.summary.show_message("info", "Starting …")
        self.runner.start(
            RunRequest(snapshot, plan.recipe, model.entry.name, plan.warnings, target)
        )

    def _on_progress(self, event: Any) -> None:
        if isinstance(event, Started):
            self._clock, self._stage = None, event.stage.capitalize()
            self.bar.setRange(0, event.total)
            self.summary.show_message("info", f"{self._stage} …")
        elif isinstance(event, TileDone):
            self.bar.setRange(0, event.total)
            self.bar.setValue(event.done)
            done = f"{self._stage}: {100 * event.done // max(event.total, 1)} %"
            if self._stage in ("", "Predicting"):
                done = f"Tile {event.done} of {event.total}"
            self.summary.show_message("info", done + self._left(event))
        self._show_state()

    def _left(self, event: TileDone) -> str:
        """Return how long the remaining tiles will take, at the pace so far."""
        now = time.monotonic()
        if self._clock is None or event.done <= self._clock[1]:
            self._clock = (now, event.done)
            return ""
        began, first = self._clock
        seconds = (now - began) / (event.done - first) * (event.total - event.done)
        return (
            f" · about {seconds / 60:.0f} min left" if seconds > 90 else f" · {seconds:.0f} s left"
        )

    def _on_success(self, result: RunResult) -> None:
        request, made = result.request, result.segmentation
        snapshot = request.snapshot
        record = {**made.record, **snapshot.facts()}
        labels, notes = made.labels, list(result.warnings)
        if isinstance(made, Segmentation):
            where = ""
        else:
            source = snapshot.volume.axes.names.replace("C", "")
            labels = lazy_levels(made.path, made.axes.names, source, snapshot.placement)
            where = f"In {made.path}. {WHY_NO_PREVIEW}"
        self.result.add(labels, snapshot, request.result_name, made.features, record)
        if isinstance(made, Segmentation) and self._settings.keep_probabilities:
            self.preview.keep(made.prediction, self._settings.measure)
            model, layer = self._header.value(), snapshot.layer
            self._previewed = None if model is None or layer is None else (model.entry.path, layer)
        if snapshot.edited():
            notes.append(
                f"The image {snapshot.name!r} was edited while running; the labels show it as it "
                f"was at {snapshot.taken:%H:%M:%S}."
            )
        if snapshot.level:
            notes.append(f"Level {snapshot.level} of the multiscale image was segmented.")
        self._summarise(made, result.seconds, notes, where)
        if notes:
            notify_warning(f"{request.result_name}: " + " ".join(notes))

    def _on_failure(self, message: str) -> None:
        tell_failure(self.summary, message)

    def _on_cancelled(self, left_behind: str) -> None:
        self.summary.show_message("info", f"Cancelled; nothing was added.{left_behind}")
        self._viewer.status = "Segmentation cancelled"

    def _summarise(
        self,
        made: Segmentation | StreamedSegmentation,
        seconds: float,
        notes: list[str],
        where: str = "",
    ) -> None:
        count = made.object_count
        noun = "object" if self.objects.makes_objects() else "class"
        plural = {"object": "objects", "class": "classes"}[noun]
        parts = [f"{count:,} {noun if count == 1 else plural}", f"{seconds:.1f} s"]
        size = next((n for n in ("area", "volume") if len(made.measurements.get(n, ()))), None)
        if size is not None and noun == "object":
            parts.append(f"median {size} {_sized(made, size)}")
        splits = made.record["objects"].get("tracks", {}).get("splits", 0)
        if splits:
            parts.append(f"{splits:,} split{'s' * (splits != 1)}")
        self.summary.show_message(
            "warning" if notes else "good",
            "\n".join(filter(None, [" · ".join(parts), where, *notes])),
        )
        self._viewer.status = f"U-Net Studio: {parts[0]} in {parts[1]}"

    # -- live preview -----------------------------------------------------------

    def _on_model(self) -> None:
        model = self._header.value()
        if model is not None:
            self.objects.set_card(model.entry.card)
        self.input.set_card(model.entry.card if model is not None else None)
        self._forecast_timer.start()

    def _on_objects(self, _value: object = None) -> None:
        self._forecast_timer.start()
        model, choice = self._header.value(), self.input.value()
        if (
            self.objects.live.isChecked()
            and self.objects.live.isEnabled()
            and self.preview.available
            and model is not None
            and choice is not None
            and self._previewed == (model.entry.path, choice.layer)
        ):
            self._result_was_there = self.result.in_viewer()
            self.preview.request(self.objects.value())

    def _on_preview(self, made: Segmentation, seconds: float) -> None:
        if self._result_was_there and not self.result.in_viewer():
            return  # deleted meanwhile, and deleted it stays
        snapshot = self.result.layer and self.result.layer.metadata.get("unet_studio", {})
        told = {key: value for key, value in (snapshot or {}).items() if key in SNAPSHOT_KEYS}
        record = {**made.record, **told}
        self.result.refresh(made.labels, made.features, record)
        self._summarise(made, seconds, [])

    def _show_state(self) -> None:
        running = self.runner.running
        if running:
            text = CANCELLING_TEXT if self.runner.cancelling else CANCEL_TEXT
        else:
            text = RUN_TEXT
            self.bar.setRange(0, 0)
        self.run_button.setText(text)
        self.run_button.setEnabled(
            not self.runner.cancelling if running else self._plan is not None
        )
        self.run_button.setToolTip(
            "Stop at the next tile or block; nothing is added."
            if running
            else "Segment the image into a new labels layer (Ctrl+Shift+U)."
        )
        self.bar.setVisible(running)


def _sized(made: Segmentation | StreamedSegmentation, size: str) -> str:
    from unet_studio.objects.measurements import units

    value = float(np.median(made.measurements[size]))
    unit = units(made.axes).get(size, "")
    for long, short in _SHORT_UNITS:
        unit = unit.replace(long, short)
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
