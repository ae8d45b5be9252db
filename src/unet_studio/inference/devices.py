"""Which devices are there, and how much memory they have; torch only where it is loaded."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from unet_studio.errors import RecipeError

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def likely_devices() -> list[str]:
    """Return device names, best first, without importing torch.

    A guess from the operating system until torch is loaded, then torch's word.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        names = ["cuda"] if len(names) == 1 else names
        if torch.backends.mps.is_available():
            names.append("mps")
        return [*names, "cpu"]
    if Path("/proc/driver/nvidia/version").exists():
        return ["cuda", "cpu"]
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return ["mps", "cpu"]
    return ["cpu"]


def likely_device(name: str) -> str:
    """Return what "auto" will probably be; other names are passed through.

    Raises
    ------
    RecipeError
        If no device is called like this.
    """
    if not _NAME.fullmatch(name):
        raise RecipeError(
            f"There is no device called {name!r}. Use auto, cpu, cuda, cuda:N or mps."
        )
    return likely_devices()[0] if name == "auto" else name


def free_memory(device: str) -> int | None:
    """Return the free memory of a device in bytes; None if it can not be known yet."""
    if device in ("cpu", "mps"):
        return int(psutil.virtual_memory().available)
    torch = sys.modules.get("torch")
    if torch is None or torch.device(device).index not in (
        None,
        *range(torch.cuda.device_count()),
    ):
        return None
    if not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def open_device(name: str) -> tuple[torch.device, str | None]:
    """Return the torch device for a name, and a notice if it is not what was asked for.

    Parameters
    ----------
    name : str
        "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises
    ------
    RecipeError
        If torch knows no such kind of device.
    """
    import torch

    device = torch.device(likely_device(name))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        return torch.device("cpu"), (
            f"The device {name} is not available (no NVIDIA GPU of that number, or its driver "
            "does not fit this torch); the CPU is used instead."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        return torch.device("cpu"), "The device mps is not available; the CPU is used instead."
    return device, None
