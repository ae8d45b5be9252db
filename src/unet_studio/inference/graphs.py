"""Converted networks that are kept: in the cache folder, or else in memory beside their model."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from unet_studio.inference.cache import cache_folder
from unet_studio.inference.silent_openvino import import_openvino, openvino_core

if TYPE_CHECKING:
    from torch import nn

_MOST_ON_DISK = 16
# Of one network: in float32, and in integers.
_MOST_IN_MEMORY = 2
_FILES = ("network.xml", "network.bin")

_held: WeakKeyDictionary[nn.Module, dict[str, Any]] = WeakKeyDictionary()
_lock = Lock()


def kept_graph(network: nn.Module, name: str) -> Any:
    """Return an OpenVINO graph that was kept, for the caller alone; None if there is none.

    Parameters
    ----------
    network : torch.nn.Module
        What it was made of.
    name : str
        That it was kept under.
    """
    with _lock:
        held = _held.get(network, {}).get(name)
        if held is not None:
            return held.clone()  # whoever runs it gives it a shape
    return _read(_folder(name))


def keep_graph(network: nn.Module, name: str, graph: Any) -> None:
    """Keep a graph in the cache folder, or, if that can not be written, as long as its network.

    Parameters
    ----------
    network : torch.nn.Module
        What it was made of.
    name : str
        Tells it from any other.
    graph : openvino.Model
    """
    try:
        _write(graph, _folder(name))
    except (OSError, RuntimeError) as error:
        logging.getLogger(__name__).info("The converted network is not kept: %s", error)
        with _lock:
            held = _held.setdefault(network, {})
            held[name] = graph.clone()
            while len(held) > _MOST_IN_MEMORY:
                del held[next(iter(held))]


def _folder(name: str) -> Path:
    return cache_folder() / "openvino" / name


def _read(folder: Path) -> Any:
    """Return the graph that a folder of the cache holds; None if it is not whole."""
    try:
        sums = json.loads((folder / "sums.json").read_text(encoding="utf-8"))
        # No format of weights would notice a flipped bit.
        if sums != {name: _sum(folder / name) for name in _FILES}:
            return None
        os.utime(folder)  # used now: others go first
        return openvino_core().read_model(*(str(folder / name) for name in _FILES))
    except (OSError, ValueError, RuntimeError):
        return None


def _write(graph: Any, folder: Path) -> None:
    openvino = import_openvino()

    scratch = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
        openvino.save_model(graph, str(scratch / _FILES[0]), compress_to_fp16=False)
        sums = {name: _sum(scratch / name) for name in _FILES}
        (scratch / "sums.json").write_text(json.dumps(sums))
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        scratch.rename(folder)
        known = sorted(folder.parent.glob("[!.]*"), key=lambda path: path.stat().st_mtime)
        for old in known[:-_MOST_ON_DISK]:
            shutil.rmtree(old, ignore_errors=True)
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
