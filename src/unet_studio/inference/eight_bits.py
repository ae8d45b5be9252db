"""Networks in integers of 8 bits: OpenVINO runs them, NNCF turns them into such.

Weights and activations are rounded to 256 steps each, whose ranges are taken from
the activations on a synthetic texture and its inverse: post-training quantisation, as
in https://docs.openvino.ai (Jacob et al. 2018, https://arxiv.org/abs/1712.05877). It
is done once per network. That needs no image, so one network gives one result.

NNCF works in a process of its own: it changes how all of Python logs, and writes to the
standard output.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unet_studio.errors import BackendError
from unet_studio.inference.silent_openvino import import_openvino, openvino_core

_EDGES = {2: 256, 3: 64}
_POLL_S = 0.05
_GIVEN, _MADE = "network.xml", "eight_bits.xml"


def has_quantiser() -> bool:
    """Whether NNCF can be imported; it is not imported."""
    return find_spec("nncf") is not None


def eight_bits(
    graph: Any,
    name: str,
    channels: int,
    strides: Sequence[int],
    check: Callable[[], None] = lambda: None,
) -> Any:
    """Return an OpenVINO graph with weights and activations of 8 bits.

    Parameters
    ----------
    graph : openvino.Model
        In float32, of any image size; left as it is.
    name : str
        Of the model, for messages.
    channels : int
        Of its input.
    strides : sequence of int
        Per axis [Z] Y X, in pixels.
    check : callable
        Called about 20 times a second. What it raises stops the work.

    Raises
    ------
    BackendError
        If it fails.
    """
    openvino = import_openvino()
    shape = [-(-_EDGES[len(strides)] // stride) * stride for stride in strides]
    # On Windows a file may be held a moment longer than its process lives.
    folder = tempfile.TemporaryDirectory(prefix="unet-studio-", ignore_cleanup_errors=True)
    with folder as scratch:
        openvino.save_model(graph, str(Path(scratch) / _GIVEN), compress_to_fp16=False)
        _run(scratch, name, [str(n) for n in (channels, *shape)], check)
        made = Path(scratch) / _MADE
        # Read as bytes: a file that is mapped could not be removed on Windows.
        return openvino_core().read_model(
            made.read_bytes(), openvino.Tensor(_bytes(made.with_suffix(".bin")))
        )


def _bytes(path: Path) -> Any:
    import numpy as np

    return np.fromfile(path, np.uint8)


def _run(folder: str, name: str, numbers: list[str], check: Callable[[], None]) -> None:
    """Quantise in another process; it is killed if ``check`` raises."""
    code = f"from {__name__} import main; main()"
    # -P: nothing is imported from the current folder.
    command = [sys.executable, "-P", "-c", code, folder, *numbers]
    no_console = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # of Windows
    said = Path(folder) / "said.txt"
    with said.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, creationflags=no_console
        )
        try:
            while process.poll() is None:
                check()
                time.sleep(_POLL_S)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        # One that was killed, for want of memory most often, says nothing of it.
        killed = process.returncode < 0 or not lines
        why = f"it ended with {process.returncode}" if killed else lines[-1][:200]
        raise BackendError(
            f"The model {name!r} can not be turned into 8-bit integers ({why}). Leave the "
            "precision to auto."
        )


def main() -> None:
    """Quantise the network in a folder; the arguments are folder, channels and shape."""
    # Both report each use to their makers, unless what they do so with is not installed.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import nncf
    import openvino
    import torch

    from unet_studio.models.seams import texture

    # With more threads its sums, and with them the result, would be others.
    torch.set_num_threads(1)
    folder, channels, *shape = sys.argv[1:]
    image = texture(int(channels), tuple(map(int, shape))).numpy()
    graph = openvino.Core().read_model(str(Path(folder) / _GIVEN))
    # Steps on one side of 0 only where activations lie so: fewer decisions change.
    made = nncf.quantize(
        graph,
        nncf.Dataset([image, 1 - image]),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=2,
    )
    openvino.save_model(made, str(Path(folder) / _MADE), compress_to_fp16=False)
