"""The Batch tab: one recipe over many images, in a process of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QGroupBox, QHBoxLayout, QPushButton, QWidget

from unet_studio.gui.batch_form import BatchForm
from unet_studio.gui.batch_plot import PlotWindow, plotted
from unet_studio.gui.batch_process import BatchProcess
from unet_studio.gui.batch_table import BAD, FINISHED, BatchTable, Row
from unet_studio.gui.layouts import framed, stacked, thin_bar
from unet_studio.gui.messages import describe, tell_failure
from unet_studio.gui.notice import Notice
from unet_studio.gui.primary_button import CANCEL_TEXT, CANCELLING_TEXT, PrimaryButton
from unet_studio.gui.recipe_button import SaveRecipeButton
from unet_studio.gui.worker import Failure, Job, Success, Telling

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer
    from qtpy.QtGui import QShowEvent

    from unet_studio.gui.model_header import ModelHeader

RUN_TEXT, RESUME_TEXT = "Run batch", "Resume batch"
# After the last change of the form, until it is looked what would be done.
_LOOK_MS = 500


class BatchTab(QWidget):
    """Binds form, process and table to the viewer.

    Parameters
    ----------
    viewer : napari viewer
    header : ModelHeader
    """

    def __init__(self, viewer: Viewer, header: ModelHeader) -> None:
        super().__init__()
        self._viewer = viewer
        self.form = BatchForm(header)
        self.table = BatchTable()
        self.forecast, self.summary = Notice(viewer.theme), Notice(viewer.theme)
        self.detail = Notice(viewer.theme)
        self.run_button = PrimaryButton(RUN_TEXT, "unet-studio-batch", viewer.theme)
        self.bar = thin_bar()
        self.open_button, self.plot_button = QPushButton("Open"), QPushButton("Plot …")
        self.looker, self.batch = BatchProcess(self), BatchProcess(self)
        self.job: Job | None = None
        self._plot: PlotWindow | None = None
        self._axes: str | None = None
        self._total = self._seen = self._worked = self._failed = 0
        self._began = 0.0
        self._stale = True
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_LOOK_MS)
        self._lay_out()
        self._connect(header)
        self._show_state()

    # -- what the dock calls ------------------------------------------------

    def run_or_cancel(self) -> None:
        """Do what the primary button does: start the batch, or stop it."""
        if self.batch.running:
            self.batch.cancel()
            self._show_state()
        else:
            self._run()

    def choose_layer(self, layer: Image) -> None:
        """Add the file of a layer to the images."""
        if path := layer.source.path:
            self.form.add([path])

    def stop_work(self) -> None:
        """Stop what is going: the window closes. The batch can be resumed."""
        self._timer.stop()
        self.looker.abandon(kill=True)
        self.batch.shut_down()
        if self.job is not None:
            self.job.abandon()
            self.job = None
        if self._plot is not None:
            self._plot.close()
        self.summary.show_message("info", "")
        self._show_state()

    def shut_down(self) -> None:
        """Let go of everything for good."""
        self.stop_work()

    def set_theme(self, theme: str) -> None:
        """Follow a change of napari's theme."""
        for notice in (self.forecast, self.summary, self.detail):
            notice.set_theme(theme)
        self.run_button.set_theme(theme)

    def showEvent(self, event: QShowEvent) -> None:
        """Look again what would be done, if something changed meanwhile."""
        super().showEvent(event)
        if self._stale:
            self._on_change()

    # -- building -------------------------------------------------------------

    def _lay_out(self) -> None:
        self.open_button.setToolTip("Show the chosen image with its result in the viewer.")
        self.plot_button.setToolTip("Numbers and sizes of objects over the images, and export.")
        buttons = QHBoxLayout()
        buttons.addWidget(self.open_button)
        buttons.addWidget(self.plot_button)
        buttons.addWidget(SaveRecipeButton(self.form.recipe))
        outer = stacked(
            self, framed(QGroupBox("Images"), self.form), self.forecast, self.run_button,
            self.bar, self.summary,
        )  # fmt: skip
        outer.addWidget(self.table, 1)
        outer.addWidget(self.detail)
        outer.addLayout(buttons)

    def _connect(self, header: ModelHeader) -> None:
        self.form.changed.connect(self._on_change)
        header.changed.connect(self._on_change)
        self._timer.timeout.connect(self.look)
        self.run_button.clicked.connect(self.run_or_cancel)
        self.looker.told.connect(self._on_looked)
        self.looker.ended.connect(self._on_look_ended)
        self.batch.told.connect(self._on_told)
        self.batch.ended.connect(self._on_ended)
        self.table.chosen.connect(self._on_chosen)
        self.table.opened.connect(self.open_row)
        self.open_button.clicked.connect(self._open_current)
        self.plot_button.clicked.connect(self.open_plot)

    # -- looking ----------------------------------------------------------------

    def look(self) -> None:
        """Look, in a process, what a run would do."""
        self._timer.stop()
        self.looker.abandon(kill=True)
        if self.batch.running:
            return
        self._stale = False
        self.table.rows_model.clear()
        self._on_chosen(None)
        wish = self.form.wish(look=True)
        if wish.order is None:
            self.forecast.show_message("info", wish.missing)
        else:
            self.forecast.show_message("info", "Looking at the images …")
            self.summary.show_message("info", "")
            self.looker.start(wish.order)
        self._show_state()

    def _on_change(self) -> None:
        self._stale = True
        if self.isVisible() and not self.batch.running:
            self._timer.start()
        self._show_state()

    def _on_looked(self, events: list[dict[str, Any]]) -> None:
        self.table.rows_model.take(e for e in events if e["event"] == "looked")

    def _on_look_ended(self, last: dict[str, Any]) -> None:
        rows = self.table.rows_model.rows()
        if last["event"] != "ended":
            self.forecast.show_message("warning", last.get("reason", "Not looked at."))
            self._show_state()
            return
        bad = sum(row.state in BAD for row in rows)
        there = sum(row.state == "there" for row in rows)
        parts = [_count(len(rows), "image")]
        parts += [f"{there:,} with a result"] * bool(there)
        parts += [f"{bad:,} that can not be done"] * bool(bad)
        lines = [", ".join(parts) + f". Results go to {self.form.output}.", *last["problems"]]
        wrong = bad or last["problems"]
        self.forecast.show_message("warning" if wrong else "info", "\n".join(lines))
        self._show_state()

    # -- running ------------------------------------------------------------------

    def _run(self) -> None:
        wish = self.form.wish()
        if wish.order is None:
            self.forecast.show_message("warning", wish.missing)
            return
        self._timer.stop()
        self.looker.abandon(kill=True)
        self._axes = wish.order.recipe.get("axes")
        if wish.order.recipe_file:
            self._axes = _axes_of(wish.order.recipe_file)
        self._total = self._seen = self._worked = self._failed = 0
        self._began = time.monotonic()
        self.forecast.show_message("info", "")
        self.summary.show_message("info", "Starting: loading the model …")
        self.batch.start(wish.order)
        self._show_state()

    def _on_told(self, events: list[dict[str, Any]]) -> None:
        items = [event for event in events if event["event"] == "item"]
        self.table.rows_model.take(items)
        self._seen += len(items)
        self._worked += sum(event["state"] != "skipped" for event in items)
        self._failed += sum(event["state"] == "failed" for event in items)
        part = ""
        for event in events:
            if event["event"] == "started":
                self._total = event["total"]
            elif event["event"] == "progress" and event["total"] > 1:
                part = f" · {event['name']} {100 * event['done'] // event['total']} %"
        self.bar.setRange(0, self._total)
        self.bar.setValue(self._seen)
        if self._total and not self.batch.cancelling:
            failed = f", {self._failed:,} failed" if self._failed else ""
            text = f"{self._seen:,} of {self._total:,}{failed}{self._time_left()}{part}"
            self.summary.show_message("info", text)
        if items and self._plot is not None and self._plot.isVisible():
            self._plot.show_rows(self.table.rows_model.rows())
        if items:
            self._on_chosen(self.table.current())

    def _time_left(self) -> str:
        # What was complete already took no time, and says nothing of what is to do.
        if self._worked < 3 or self._seen == self._total:
            return ""
        seconds = (time.monotonic() - self._began) / self._worked * (self._total - self._seen)
        return f" · {seconds / 60:.0f} min left" if seconds > 90 else f" · {seconds:.0f} s left"

    def _on_ended(self, last: dict[str, Any]) -> None:
        rows = self.table.rows_model.rows()
        done, skipped = (sum(row.state == s for row in rows) for s in ("done", "skipped"))
        complete = f"{done + skipped:,} of {max(self._total, self._seen):,} complete"
        if last["event"] == "ended":
            lines = [f"{complete} · {last['objects']:,} objects in {self.form.output}"]
            says = "its row says" if self._failed == 1 else "their rows say"
            failed = f"{_count(self._failed, 'image')} failed; {says} why."
            lines += [failed] * bool(self._failed)
            lines += last["problems"]
            wrong = self._failed or last["problems"]
            self.summary.show_message("warning" if wrong else "good", "\n".join(lines))
            self._viewer.status = f"U-Net Studio: batch ended, {complete}"
        elif last["event"] == "cancelled":
            self.summary.show_message("info", f"Cancelled: {complete}. Resume to go on.")
        else:
            tell_failure(self.summary, last["reason"])
        self._stale = False
        self._show_state()

    # -- rows -----------------------------------------------------------------------

    def open_row(self, row: Row) -> None:
        """Show an image with its result in the viewer."""
        from unet_studio.gui.batch_open import load

        if self.job is not None:
            return
        self.detail.show_message("info", f"Opening {row.name} …")
        self.job = Job(Telling(load(row, self._axes)), self)
        self.job.ended.connect(lambda outcome: self._on_opened(row, outcome))
        self.job.start()
        self._show_state()

    def _on_opened(self, row: Row, outcome: object) -> None:
        from unet_studio.gui.batch_open import show

        self.job = None
        if isinstance(outcome, Success):
            show(self._viewer, row, outcome.value)
            self.detail.show_message("info", f"{row.name} is in the viewer.")
        elif isinstance(outcome, Failure):
            tell_failure(self.detail, describe(outcome, f"Opening {row.name!r}"))
        self._show_state()

    def _open_current(self) -> None:
        row = self.table.current()
        if row is not None and row.openable:
            self.open_row(row)

    def _on_chosen(self, row: Row | None) -> None:
        bad = row is not None and row.state in BAD
        text = "" if row is None else row.words if bad else ""
        self.detail.show_message("error" if bad else "info", text)
        self._show_buttons()

    def open_plot(self) -> PlotWindow:
        """Show the charts."""
        if self._plot is None:
            self._plot = PlotWindow(self)
            self._plot.chosen.connect(self._choose)
        self._plot.show_rows(self.table.rows_model.rows())
        self._plot.show()
        self._plot.raise_()
        return self._plot

    def _choose(self, row: Row) -> None:
        names = [one.name for one in self.table.rows_model.rows()]
        self.table.selectRow(names.index(row.name))

    # -- state ------------------------------------------------------------------------

    def _show_state(self) -> None:
        running = self.batch.running
        rows = self.table.rows_model.rows()
        begun = any(row.state in FINISHED for row in rows)
        rest = any(row.state in ("waiting", "failed", "problem") for row in rows)
        if running:
            text = CANCELLING_TEXT if self.batch.cancelling else CANCEL_TEXT
        else:
            text = RESUME_TEXT if begun and rest else RUN_TEXT
        self.run_button.setText(text)
        ready = self.form.wish().order is not None
        self.run_button.setEnabled(not self.batch.cancelling if running else ready)
        self.run_button.setToolTip(
            "Stop soon; what is complete stays, and the batch can be resumed."
            if running
            else "Do all images that are not complete yet (Ctrl+Shift+U)."
        )
        self.form.setEnabled(not running)
        self.bar.setVisible(running)
        if running and not self._total:
            self.bar.setRange(0, 0)
        self._show_buttons()

    def _show_buttons(self) -> None:
        row = self.table.current()
        self.open_button.setEnabled(row is not None and row.openable and self.job is None)
        self.plot_button.setEnabled(bool(plotted(self.table.rows_model.rows())))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _axes_of(recipe_file: str) -> str | None:
    from unet_studio.batch.recipe_file import load_recipe
    from unet_studio.errors import UNetStudioError

    try:
        return load_recipe(Path(recipe_file)).axes
    except UNetStudioError:  # the process says it
        return None
