"""How long the window takes for a move of the brush, while strokes are saved and learned from.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/painting.py --data ../shared/data

paints strokes with real events of the mouse in a napari window (leave out xvfb-run where
there is a screen), on layers of several sizes, with and without a training beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import material
import measuring

# Importing triton in a process that draws by Mesa would end it; nothing here needs it.
sys.modules.setdefault("triton", None)  # type: ignore[arg-type]

RESULTS = Path(__file__).parent / "results" / "painting.md"
TARGET_MS = 50
_STROKES, _MOVES, _EVERY_S, _PAUSE_S = 12, 40, 0.016, 0.4
_PATIENCE_S = 600
_BESIDE = {"nothing": 0, "training": 1}
_NOTES = [
    "Strokes of 40 moves of the mouse, 16 ms apart, with a brush of 20 pixels, and 0.4 s between",
    "strokes, on real nuclei. Training: the bundled model learns from strokes meanwhile, with two",
    "threads, and what it finds is shown every few seconds.",
    "Move: from the event of the mouse until the window has drawn it; own: of this the",
    "time of the processor in the thread of the window, which other work does not lengthen.",
    "Pause: the longest time in which the window did not answer between the strokes and until",
    "all was saved. Saved: from the end of the last stroke. Shown: from there until what the",
    "model finds by then was shown anew.",
]


def main() -> None:
    """Print the table and write it to ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edges", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--beside", choices=list(_BESIDE), nargs="+", default=list(_BESIDE))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(args.one[0], bool(args.one[1]), args.data)))
        return
    lines = [
        "# Painting",
        "",
        *_NOTES,
        "",
        "| layer | beside | move, median ms | 99 % of moves, ms "
        f"(≤ {TARGET_MS}) | own, 99 %, ms | longest, ms "
        "| longest pause, ms | saved after, s | shown after, s (≤ 10) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for edge in args.edges:
        for beside in args.beside:
            lines.append(row(edge, beside, args.data))
            print(lines[-1], flush=True)
    about = measuring.machine("cpu", 2)
    lines += ["", f"Machine: {about['processor']}, {about['cores']} cores, drawing in software.",
              "Command: `python benchmarks/painting.py --data ../shared/data`"]  # fmt: skip
    args.output.write_text("\n".join(lines) + "\n")


def row(edge: int, beside: str, data: Path) -> str:
    """Measure one case in a process of its own; return a line of the table."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, __file__, "--one", str(edge), str(_BESIDE[beside]),
                   "--data", str(data)]  # fmt: skip
        environment = {**os.environ, "UNET_STUDIO_HOME": home}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    numbers = " | ".join(
        "" if found[name] is None else f"{found[name]:.{digits}f}"
        for name, digits in found["columns"]
    )
    return f"| {edge:,} × {edge:,} | {beside} | {numbers} |"


def measured(edge: int, training: bool, data: Path) -> dict[str, Any]:
    """Paint strokes, while the model is trained or not."""
    window = Window(edge, data)
    for number in range(2):  # the first ones warm up, and are what is learned from
        window.stroke(number)
    window.until_saved()
    if training:
        window.train()
    moves: list[tuple[float, float]] = []
    window.longest_pause = 0.0
    for number in range(2, _STROKES + 2):
        moves += window.stroke(number)
        window.rest(_PAUSE_S)
    if training and not window.tab.runner.running:
        raise RuntimeError(f"the training has ended: {window.tab.summary.text()}")
    ended = time.perf_counter() - _PAUSE_S
    window.until_saved()
    saved, shown = time.perf_counter() - ended, None
    pause = window.longest_pause
    if training:
        window.stroke(0)
        ended = time.perf_counter()
        window.until_shown_anew()
        shown = time.perf_counter() - ended
        window.cancel()
    ms = sorted(1000 * wall for wall, _ in moves)
    own = sorted(1000 * thread for _, thread in moves)
    last = round(0.99 * (len(ms) - 1))
    return {
        "columns": [("median", 1), ("p99", 1), ("own", 1), ("longest", 1),
                    ("pause", 0), ("saved", 1), ("shown", 1)],
        "median": statistics.median(ms),
        "p99": ms[last],
        "own": own[last],
        "longest": ms[-1],
        "pause": 1000 * pause,
        "saved": saved,
        "shown": shown,
    }  # fmt: skip


class Window:
    """A napari window with a layer to paint in, and a hand with a mouse."""

    def __init__(self, edge: int, data: Path) -> None:
        import napari
        from qtpy.QtWidgets import QApplication

        self.longest_pause = 0.0
        self._process = QApplication.processEvents
        viewer = napari.Viewer()
        viewer.window.resize(1300, 900)
        _, studio = viewer.window.add_plugin_dock_widget("napari-unet-studio", "U-Net Studio")
        titles = [studio.tabs.tabText(i) for i in range(studio.tabs.count())]
        studio.tabs.setCurrentIndex(titles.index("Refine"))
        viewer.add_image(material.mosaic(data, edge), name="image", contrast_limits=(0, 255))
        self.tab = studio.tab
        self.tab.painting.paint.click()
        self.layer = self.tab.canvas().labels
        self.layer.brush_size = 20
        viewer.scene.camera.center = (edge / 2, edge / 2)
        viewer.scene.camera.zoom = 1
        self._canvas = viewer.window._qt_viewer.canvas.native
        self.rest(1.0)

    def stroke(self, number: int) -> list[tuple[float, float]]:
        """Paint one; return the seconds that each move took, and those of its own thread."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        left, plain = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        row = 60 + 40 * (number % 14)
        places = [QPoint(100 + 10 * i, row + (i % 9)) for i in range(_MOVES)]
        self.layer.selected_label = 1 + number % 2
        QTest.mousePress(self._canvas, left, plain, places[0])
        taken = []
        for place in places:
            began, own = time.perf_counter(), time.thread_time()
            self._move(place)
            self._process()
            taken.append((time.perf_counter() - began, time.thread_time() - own))
            while time.perf_counter() < began + _EVERY_S:
                self._process()
        QTest.mouseRelease(self._canvas, left, plain, places[-1])
        self._process()
        return taken

    def rest(self, seconds: float) -> None:
        """Let the window go on, and note its longest pause."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            self._process()
            time.sleep(0.001)
            self.longest_pause = max(self.longest_pause, time.perf_counter() - began)

    def train(self) -> None:
        """Begin a training, and wait until it has shown what it finds so far."""
        self.tab.training.seconds.setValue(600)
        self.tab.run_button.click()
        self._until(lambda: self.tab.overlay.layer is not None, "the training showed nothing")

    def cancel(self) -> None:
        """Cancel the training."""
        self.tab.training.cancel.click()
        self._until(lambda: not self.tab.runner.running, "the training did not end")

    def _until(self, condition: Callable[[], bool], failure: str) -> None:
        end = time.perf_counter() + _PATIENCE_S
        while not condition():
            self.rest(0.02)
            if time.perf_counter() > end:
                raise TimeoutError(failure)

    def until_shown_anew(self) -> None:
        """Wait until the overlay shows what was found after now."""
        last = self.tab.overlay.glimpse
        self._until(lambda: self.tab.overlay.glimpse is not last, "nothing was shown any more")

    def until_saved(self) -> None:
        """Wait until every stroke is on the disk."""
        self.rest(0.05)
        self._until(lambda: not self.tab.desk.saving(), "the strokes were not saved")

    def _move(self, place: Any) -> None:
        from qtpy.QtCore import QEvent, QPointF, Qt
        from qtpy.QtGui import QMouseEvent
        from qtpy.QtWidgets import QApplication

        there = QPointF(self._canvas.mapToGlobal(place))
        none, left = Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton
        plain = Qt.KeyboardModifier.NoModifier
        event = QMouseEvent(QEvent.Type.MouseMove, QPointF(place), there, none, left, plain)
        QApplication.sendEvent(self._canvas, event)


if __name__ == "__main__":
    main()
