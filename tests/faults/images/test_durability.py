"""P18: what a power cut finds: the bytes are on the disk before the name says that they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from unet_studio.axes import Axes
from unet_studio.images.writers import write_labels


@pytest.fixture
def journal(monkeypatch) -> list[tuple[str, str, str]]:
    """What was flushed and renamed, in order: ``(event, kind, name)``."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc on this system")
    events = []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def flushed(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        events.append(("flushed", kind, str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def moved(by):
        def move(self, target):
            events.append(("named", "", str(target)))
            return by(self, target)

        return move

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", moved(rename))
    monkeypatch.setattr(Path, "replace", moved(replace))
    return events


def labels() -> np.ndarray:
    return np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".nii.gz"])
def test_P18_a_file_is_flushed_before_it_gets_its_name_and_its_folder_after(
    suffix, journal, tmp_path
):
    path = write_labels(labels(), Axes("YX"), tmp_path / f"a{suffix}")
    named = journal.index(("named", "", str(path)))
    before, after = journal[:named], journal[named + 1 :]
    assert any(e == "flushed" and k == "file" and ".partial-" in n for e, k, n in before)
    assert ("flushed", "folder", str(tmp_path)) in after


def test_P18_every_file_of_a_store_is_flushed_before_the_store_gets_its_name(journal, tmp_path):
    path = write_labels(labels(), Axes("YX"), tmp_path / "a.ome.zarr")
    named = journal.index(("named", "", str(path)))
    flushed = {Path(n).name for e, k, n in journal[:named] if e == "flushed" and k == "file"}
    there = {p.name for p in path.rglob("*") if p.is_file()}
    assert there <= flushed
    assert ("flushed", "folder", str(tmp_path)) in journal[named + 1 :]
