"""What the benchmarks measure with: peaks of memory, differences of results, the machine."""

from __future__ import annotations

import gc
import os
import platform
import resource
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BAND = 256
_PACKAGES = ("torch", "openvino", "numpy", "zarr", "monai", "nnunetv2")


@dataclass(frozen=True)
class Difference:
    """How a result differs from the reference.

    Attributes
    ----------
    flips : float
        Share of the pixels that change side: another likeliest class, or another side
        of 0.5 in the first channel.
    largest : float
        Largest difference of a probability.
    """

    flips: float
    largest: float


def compare(
    found: NDArray[np.float16], expected: NDArray[np.float16], representation: str
) -> Difference:
    """Compare probabilities, axes (C, Y, X)."""
    flips, largest = 0, 0.0
    for start in range(0, expected.shape[1], _BAND):
        # In bands: numpy would make float32 copies of all.
        a, b = (p[:, start : start + _BAND].astype(np.float32) for p in (found, expected))
        if representation == "classes":
            flips += int((a.argmax(0) != b.argmax(0)).sum())
        else:
            flips += int(((a[0] > 0.5) != (b[0] > 0.5)).sum())
        largest = max(largest, float(np.abs(a - b).max()))
    return Difference(flips / expected[0].size, largest)


class MemoryGrowth:
    """Growth of the peak of resident memory from here on, and of a GPU's.

    Linux lets a process set its peak back, so that a higher one while modules were
    imported does not hide the growth. ``ru_maxrss`` can not be set back, and a child
    starts with its parent's; it serves elsewhere.
    """

    def __init__(self, device: str = "cpu") -> None:
        gc.collect()
        self._cuda = device.startswith("cuda")
        if self._cuda:
            import torch

            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._device_base = torch.cuda.memory_allocated()
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pass
        self._base = peak_bytes()

    def measured(self) -> dict[str, Any]:
        """Return the growth in bytes: "memory", and "device_memory" on a GPU."""
        result = {"memory": peak_bytes() - self._base}
        if self._cuda:
            import torch

            result["device_memory"] = torch.cuda.max_memory_allocated() - self._device_base
        return result


def peak_bytes() -> int:
    """Return the peak of this process's resident memory so far."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def synchronise(device: str) -> None:
    """Wait until a GPU has done all that it was given."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


def machine(device: str, threads: int) -> dict[str, Any]:
    """Describe the machine and the versions of what decides the speed."""
    versions = {"Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": _device_name(device),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(s for s in lines if s.startswith("model name")).partition(":")[2].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _device_name(device: str) -> str:
    if not device.startswith("cuda"):
        return "CPU only"
    import torch

    return str(torch.cuda.get_device_name(device))
