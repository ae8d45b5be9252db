"""Which devices are there, and how much memory they have; torch only where it is loaded."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from unet_studio.errors import RecipeError

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"auto|cpu|mps|cuda|cuda:\d+(,cuda:\d+)*")
# Fewer tiles than this for each GPU are not worth setting up another one.
_TILES_PER_DEVICE = 3


def loaded_torch() -> Any:
    """Return torch if it has been imported, else None: also while another thread is at it."""
    torch = sys.modules.get("torch")
    if getattr(getattr(torch, "__spec__", None), "_initializing", False):
        return None
    return torch


def likely_devices() -> list[str]:
    """Return device names, best first, without importing torch.

    A guess from the operating system until torch is loaded, then torch's word. "cuda"
    stands for all GPUs.
    """
    torch = loaded_torch()
    if torch is not None:
        names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        names = ["cuda", *(names if len(names) > 1 else [])] if names else []
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
            f"There is no device called {name!r}. Use auto, cpu, cuda, cuda:N, several GPUs such "
            "as cuda:0,cuda:1, or mps."
        )
    return likely_devices()[0] if name == "auto" else name


def first_of(devices: str) -> str:
    """Return the first of several device names: "cuda:0" of "cuda:0,cuda:1"."""
    return devices.partition(",")[0]


def kind_of(devices: str) -> str:
    """Return what kind of device a name stands for: "cpu", "cuda" or "mps"."""
    return first_of(devices).partition(":")[0]


def free_memory(device: str) -> int | None:
    """Return the free memory of a device in bytes; None if it can not be known yet.

    Of several devices it is the least; of "cuda" too, which stands for all GPUs.
    """
    if device in ("cpu", "mps"):
        return int(psutil.virtual_memory().available)
    torch = loaded_torch()
    if torch is None or not torch.cuda.is_available():
        return None
    present = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    names = present if device == "cuda" else device.split(",")
    if not names or any(name not in present for name in names):
        return None
    return int(min(torch.cuda.mem_get_info(name)[0] for name in names))


def open_devices(name: str, tiles: int) -> tuple[list[torch.device], str | None]:
    """Return the torch devices for a name, and a notice if they are not what was asked for.

    Parameters
    ----------
    name : str
        "auto", "cpu", "cuda", "cuda:N", "mps", or several: "cuda:0,cuda:1". "cuda" stands
        for all GPUs that the tiles are enough for.
    tiles : int
        Of the run.

    Raises
    ------
    RecipeError
        If torch knows no such kind of device.
    """
    import torch

    name = likely_device(name)
    count = torch.cuda.device_count()
    if name == "cuda" and count > 1:
        used = min(count, max(1, tiles // _TILES_PER_DEVICE))
        return [torch.device("cuda", i) for i in range(used)], None
    devices = [torch.device(part) for part in name.split(",")]
    for device in devices:
        if device.type == "cuda" and (device.index or 0) >= count:
            return [torch.device("cpu")], (
                f"The device {device} is not available (no NVIDIA GPU of that number, or its "
                "driver does not fit this torch); the CPU is used instead."
            )
        if device.type == "mps" and not torch.backends.mps.is_available():
            text = "The device mps is not available; the CPU is used instead."
            return [torch.device("cpu")], text
    return devices[: max(1, tiles)], None


def lacking(error: BaseException, device: torch.device) -> str | None:
    """Return what a GPU says it can not do, None if that is not what an error is about.

    Apple's GPUs lack some operations (torch raises NotImplementedError for them); all CPUs
    have all of them.
    """
    if device.type == "cpu" or not isinstance(error, NotImplementedError):
        return None
    return str(error).split(". ")[0]  # torch goes on with advice that is not for users
