"""How soon after a click on Cancel the window is usable, at any moment of a run (L10).

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/cancel.py

drives the Segment tab of a real napari window (leave out xvfb-run where there is a
screen). Each run is started and cancelled at evenly spread moments of one stage.
"""

from __future__ import annotations

import argparse
import faulthandler
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

import material
import measuring
import objects as objects_benchmark
from unet_studio import predict
from unet_studio.axes import Axes
from unet_studio.images.volume import as_volume
from unet_studio.inference.prediction import Prediction
from unet_studio.objects.methods import METHODS

# Importing triton in a process that draws by Mesa would end it; nothing here needs it.
sys.modules.setdefault("triton", None)  # type: ignore[arg-type]

RESULTS = Path(__file__).parent / "results" / "cancel.md"
TARGET = 2.0
_PATIENCE = 1800
_PAUSE = 0.2
_AT_ONCE = 10  # milliseconds of events
_NOTES = [
    "The time from a click on **Cancel** in napari's window until the button says **Segment**",
    "again and a new run can start. Every case is run once to its end, then started again and",
    "cancelled at moments spread evenly over the stage. Longest pause: the longest time in which",
    "the window did not answer while a run of the case was going. In the objects step the",
    "probabilities are given: those of the bundled model for real nuclei (2,048 × 2,048, tiled),",
    "of touching balls, and of a carpet of touching cells that is a single piece of foreground.",
]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of the image.
    axes : str
    make : callable or None
        Returns the probabilities, axes (C, ...) or (T, C, ...); None runs the network.
    stage : str
        Name of the stage to stop in.
    link, disk : bool
        Link through time; go through the disk.
    """

    name: str
    shape: tuple[int, ...]
    axes: str
    make: Callable[[], NDArray[np.float16]] | None
    stage: str = "Making objects"
    link: bool = False
    disk: bool = False


def main() -> None:
    """Print the table and write it to ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=8, help="runs cancelled in each case")
    parser.add_argument("--edge", type=int, default=8192, help="of the large frame, in pixels")
    parser.add_argument("--stack", type=int, nargs=3, default=[256, 512, 512])
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pauses", type=Path, help="write what all threads were at in pauses")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    pauses = args.pauses.open("w") if args.pauses else None
    lines = [
        "# Cancel",
        "",
        *_NOTES,
        "",
        f"| stage | objects | whole stage, s | cancelled, median s | longest, s (≤ {TARGET:g}) "
        "| longest pause, s |",
        "|---|---|---|---|---|---|",
    ]
    for case in cases(args):
        if args.only in case.name:
            lines.append(row(case, args.moments, pauses))
            print(lines[-1], flush=True)
    about = measuring.machine("cpu", 1)
    lines += ["", f"Machine: {about['processor']}, {about['cores']} cores.",
              f"Command: `python benchmarks/cancel.py --moments {args.moments}`"]  # fmt: skip
    args.output.write_text("\n".join(lines) + "\n")


def cases(args: argparse.Namespace) -> list[Case]:
    """Return what is measured."""
    edge, stack = args.edge, tuple(args.stack)
    frame, text = (edge, edge), f"{edge:,} × {edge:,}"
    half = (3, edge // 2, edge // 2)
    volume = " × ".join(map(str, stack))

    def nuclei(*shape: int) -> NDArray[np.float16]:
        small = predict(material.mosaic(args.data, 2048), "nuclei").probabilities
        return tiled(small, shape)

    def balls() -> NDArray[np.float16]:
        return objects_benchmark.balls(stack).probabilities

    def movie() -> NDArray[np.float16]:
        one = nuclei(*half[1:])
        return np.stack([np.roll(one, 3 * t, axis=2) for t in range(half[0])])

    return [
        Case("network, 4,096 × 4,096", (4096, 4096), "YX", None, "Predicting"),
        Case(f"objects, nuclei, {text}", frame, "YX", lambda: nuclei(*frame)),
        Case(f"objects, carpet, {text}", frame, "YX", lambda: carpet(frame)),
        Case(f"objects, balls, {volume}", stack, "ZYX", balls),
        Case(f"objects, linked, {' × '.join(map(str, half))}", half, "TYX", movie, link=True),
        Case(f"through the disk, nuclei, {text}", frame, "YX", lambda: nuclei(*frame), disk=True),
        Case(f"through the disk, balls, {volume}", stack, "ZYX", balls, disk=True),
    ]


def tiled(small: NDArray[np.float16], shape: tuple[int, ...]) -> NDArray[np.float16]:
    """Repeat probabilities until they fill a frame."""
    repeats = [-(-n // m) for n, m in zip(shape, small.shape[1:], strict=True)]
    return np.tile(small, (1, *repeats))[(slice(None), *(slice(0, n) for n in shape))]


def carpet(shape: tuple[int, int]) -> NDArray[np.float16]:
    """Return probabilities of touching cells of 24 × 24 pixels: one piece of foreground."""
    y, x = (1 - np.abs((np.arange(n) % 24) - 11.5) / 12 for n in shape)
    height = np.minimum.outer(y, x).astype(np.float16)
    return np.stack([np.ones_like(height), 1 - height, height])


def row(case: Case, moments: int, pauses: TextIO | None = None) -> str:
    """Measure one case; return a line of the table."""
    probabilities = case.make() if case.make is not None else None
    with tempfile.TemporaryDirectory() as folder:
        window = Window(case, probabilities, Path(folder), pauses)
        began, ended, _ = window.run(None)
        whole, found = ended - began, window.found()
        taken = []
        for number in range(moments):
            after = (number + 0.5) / moments * whole
            _, ended, clicked = window.run(after)
            if clicked:
                taken.append(ended - clicked)
                print(f"{case.name}: cancelled after {after:.1f} s, took {taken[-1]:.2f} s")
        window.close()
    return (
        f"| {case.name} | {found:,} | {whole:.1f} | {statistics.median(taken):.2f} | "
        f"{max(taken):.2f} | {window.longest_pause:.2f} |"
    )


class Window:
    """A napari window with one image, whose Segment tab is clicked."""

    def __init__(
        self, case: Case, probabilities: Any, folder: Path, pauses: TextIO | None
    ) -> None:
        import napari
        from qtpy.QtCore import QEventLoop
        from qtpy.QtWidgets import QApplication

        from unet_studio.inference.predictor import predict_steps

        self.case, self.longest_pause, self._plain = case, 0.0, predict_steps
        self._pauses = pauses
        self.viewer = napari.Viewer()
        # For some time only: where a run tells of its progress without a break, there is no end.
        self._events = partial(
            QApplication.processEvents, QEventLoop.ProcessEventsFlag.AllEvents, _AT_ONCE
        )
        _, studio = self.viewer.window.add_plugin_dock_widget("napari-unet-studio", "U-Net Studio")
        studio.header.select("nuclei")
        self.tab = studio.tab
        image = np.zeros(case.shape, np.uint8)
        if probabilities is None:
            image[...] = np.random.default_rng(0).integers(0, 255, case.shape, np.uint8)
        else:
            give(probabilities, case.axes)
        labels = tuple(case.axes.lower())
        self.viewer.add_image(image, name="image", axis_labels=labels, contrast_limits=(0, 255))
        self.tab.update_forecast()
        self.tab.objects.link.setChecked(case.link)
        self.tab.disk._chosen = folder
        self.tab.disk.box.setChecked(case.disk)
        self.tab.update_forecast()

    def run(self, after: float | None) -> tuple[float, float, float]:
        """Run; cancel so many seconds into the stage. Return when it began, ended, was clicked."""
        self.viewer.layers[1:] = []
        self.tab.run_button.click()
        self._wait(lambda: self.tab._stage == self.case.stage or not self.tab.runner.running)
        began, clicked = time.perf_counter(), 0.0
        if after is not None:
            until = began + after
            self._wait(lambda: time.perf_counter() > until or not self.tab.runner.running)
            if self.tab.runner.running:
                clicked = time.perf_counter()
                self.tab.run_button.click()
        self._wait(lambda: not self.tab.runner.running and self.tab.run_button.isEnabled())
        ended = time.perf_counter()
        self.tab._stage = ""
        return began, ended, clicked

    def found(self) -> int:
        """Return how many objects the run made that was not cancelled."""
        return int(self.viewer.layers[-1].metadata["unet_studio"]["objects"]["count"])

    def close(self) -> None:
        """Close the window; the network is itself again."""
        take_back(self._plain)
        self.viewer.close()

    def _wait(self, done: Callable[[], bool]) -> None:
        end, last = time.perf_counter() + _PATIENCE, time.perf_counter()
        while not done():
            if self._pauses is not None:  # its thread needs no Python, so it writes in any pause
                faulthandler.dump_traceback_later(_PAUSE, file=self._pauses)
            self._events()
            now = time.perf_counter()
            if self.tab.runner.running:  # at the end the layer is added
                self.longest_pause = max(self.longest_pause, now - last)
            last = now
            if now > end:
                raise TimeoutError(f"{self.case.name} did not come to an end")
            time.sleep(0.002)
        faulthandler.cancel_dump_traceback_later()


def give(probabilities: NDArray[np.float16], axes: str) -> None:
    """Let every prediction from now on be this one."""
    import unet_studio.inference.predictor as predictor

    names = f"TC{axes[1:]}" if axes[0] == "T" else f"C{axes}"
    model = predict(np.zeros((64, 64), np.uint8), "nuclei")
    shape = np.delete(probabilities.shape, names.index("C"))
    info = as_volume(np.broadcast_to(np.uint8(0), shape), axes).info
    known = Prediction(probabilities, Axes(names), model.card, info, model.record)

    def given(*_: Any, output: Any = None, **__: Any) -> Generator[Any, None, Prediction]:
        yield from ()
        if output is None:
            return known
        output[...] = probabilities
        return replace(known, probabilities=output)

    predictor.predict_steps = given  # type: ignore[assignment]


def take_back(plain: Any) -> None:
    """Let the network predict again."""
    import unet_studio.inference.predictor as predictor

    predictor.predict_steps = plain


if __name__ == "__main__":
    METHODS.load("watershed")
    main()
