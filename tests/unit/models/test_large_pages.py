"""Torch's large arrays lie in large pages, where Linux has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_FAULTS = """
import resource, torch
{setting}
from unet_studio.models.model import load_model

load_model("nuclei")
array = torch.empty(2**26, dtype=torch.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
array.zero_()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def faults(setting: str = "") -> int:
    """Return the page faults of filling 64 MiB: 16,384 with small pages."""
    environment = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS.format(setting=setting)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="pages are asked for on Linux alone")
def test_large_arrays_cost_few_page_faults() -> None:
    kernel = _SETTING.read_text() if _SETTING.exists() else "[never]"
    if "[madvise]" in kernel:
        assert faults() < 1000
        assert faults("import os; os.environ['THP_MEM_ALLOC_ENABLE'] = '0'") > 10_000
    elif "[always]" in kernel:
        assert faults() < 1000
    else:
        assert faults() > 10_000
