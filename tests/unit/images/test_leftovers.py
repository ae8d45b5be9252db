"""What a killed run leaves is removed; what is alive or somebody else's stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unet_studio.images import atomic
from unet_studio.images.atomic import PARTIAL, PREVIOUS, atomic_folder, host_tag
from unet_studio.images.leftovers import remove_leftovers
from unet_studio.images.readers import is_image

UUID = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def dead() -> int:
    """Id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_only_leftovers_of_dead_processes_of_this_machine_go(dead: int, tmp_path: Path) -> None:
    gone = f"a.tif{PARTIAL}{host_tag()}-{dead}-{UUID}"
    store = f"a.ome.zarr{PARTIAL}{host_tag()}-{dead}-{UUID}"
    stay = {
        f"b.tif{PARTIAL}{host_tag()}-{os.getpid()}-{UUID}",
        f"c.tif{PARTIAL}00000000-{dead}-{UUID}",
        f"d.tif{PARTIAL}{dead}",
        f"e{PARTIAL}{host_tag()}-{dead}-{UUID}.tif",
        "f.tif",
    }
    for name in {gone, *stay}:
        (tmp_path / name).write_text("x")
    (tmp_path / store / "0").mkdir(parents=True)
    (tmp_path / store / "0" / "chunk").write_text("x")
    assert remove_leftovers(tmp_path) == 2
    assert names(tmp_path) == stay
    assert not any(is_image(tmp_path / n) for n in stay - {"f.tif"})


def test_a_link_is_removed_and_not_followed(dead: int, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    output = tmp_path / "output"
    output.mkdir()
    (output / f"a{PARTIAL}{host_tag()}-{dead}-{UUID}").symlink_to(precious)
    assert remove_leftovers(output) == 1
    assert (precious / "file").read_text() == "mine"
    assert not names(output)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_result_that_was_moved_aside_comes_back(
    replaced: bool, dead: int, tmp_path: Path
) -> None:
    holder = tmp_path / f"{PREVIOUS}{host_tag()}-{dead}-{UUID}"
    (holder / "a.ome.zarr").mkdir(parents=True)
    (holder / "a.ome.zarr" / "old").write_text("old")
    if replaced:
        (tmp_path / "a.ome.zarr").mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == {"a.ome.zarr"}
    assert (tmp_path / "a.ome.zarr" / "old").exists() is not replaced


def test_a_process_killed_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.ome.zarr"
    target.mkdir()
    (target / "old").write_text("old")
    code = f"""
import os, pathlib
from unet_studio.images.atomic import atomic_folder
rename = pathlib.Path.rename
def dies(self, to):
    if ".partial-" in self.name:
        os._exit(9)
    return rename(self, to)
pathlib.Path.rename = dies
with atomic_folder(pathlib.Path({str(target)!r}), replaceable=True) as folder:
    (folder / "new").write_text("new")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert not target.exists()
    assert remove_leftovers(tmp_path) == 2
    assert names(tmp_path) == {"a.ome.zarr"}
    assert (target / "old").read_text() == "old"


def test_an_interrupt_between_the_two_renames_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.ome.zarr"
    target.mkdir()
    (target / "old").write_text("old")
    rename = Path.rename

    def interrupted(self: Path, to: Path) -> Path:
        if PARTIAL in self.name and to == target:
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(atomic.Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_folder(target, replaceable=True):
        pass
    monkeypatch.undo()
    assert names(tmp_path) == {"a.ome.zarr"}
    assert (target / "old").exists()
