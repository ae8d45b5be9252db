"""Find a trained model of nnU-Net in a folder, or in a zip that nnU-Net exported.

One configuration is a folder ``Trainer__Plans__configuration`` with ``plans.json``,
``dataset.json`` and ``fold_X/checkpoint_final.pth``. A zip is not unpacked: single
members are read, each into memory or a temporary file.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from unet_studio.errors import ModelError, cannot_read
from unet_studio.models.archives import Caps, is_package, open_package
from unet_studio.plain_json import parse_json

PLANS, DATASET = "plans.json", "dataset.json"
DEFAULT_CHECKPOINT = "checkpoint_final.pth"
# Dataset / Trainer__Plans__configuration / plans.json
_DEPTH = 3
_MOST_ENTRIES = 20_000
_LARGEST_JSON = 64 * 2**20
_LARGEST_CHECKPOINT = 16 * 2**30
_CAPS = Caps(total=8 * _LARGEST_CHECKPOINT)
_FOLD = re.compile(r"fold_(\d{1,3}|all)")


class Store(Protocol):
    """Files by name, with ``/`` between folders."""

    @property
    def where(self) -> Path:
        """The folder or the zip."""
        ...

    def names(self) -> list[str]:
        """Return the names of the files that may belong to a trained model."""
        ...

    def read(self, name: str) -> bytes:
        """Return a small file's content."""
        ...

    def weights(self, name: str) -> Any:
        """Return, as a context, a path or a stream with a checkpoint."""
        ...


@dataclass(frozen=True)
class _Folder:
    where: Path

    def names(self) -> list[str]:
        patterns = (PLANS, DATASET, "fold_*/checkpoint_*.pth")
        found = []
        for depth in range(_DEPTH):
            for pattern in patterns:
                for path in self.where.glob("*/" * depth + pattern):
                    found.append(path.relative_to(self.where).as_posix())
                    if len(found) >= _MOST_ENTRIES:
                        return found
        return found

    def read(self, name: str) -> bytes:
        path = self.where / name
        try:
            if path.stat().st_size > _LARGEST_JSON:
                raise ModelError(
                    f"{path} is far larger than such a file of nnU-Net is. Get it again from "
                    "where the model was trained."
                )
            return path.read_bytes()
        except OSError as error:
            raise cannot_read(path, error) from None

    @contextmanager
    def weights(self, name: str) -> Iterator[Path]:
        yield self.where / name


@dataclass(frozen=True)
class _Zip:
    where: Path

    def names(self) -> list[str]:
        with open_package(self.where, _CAPS) as package:
            names = package.names()
        return [name for name in names if name.count("/") <= _DEPTH]

    def read(self, name: str) -> bytes:
        with open_package(self.where, _CAPS) as package:
            return package.read(name, _LARGEST_JSON)

    @contextmanager
    def weights(self, name: str) -> Iterator[IO[bytes]]:
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder) / "checkpoint.pth"
            with open_package(self.where, _CAPS) as package:
                package.copy(name, copied, _LARGEST_CHECKPOINT)
            with copied.open("rb") as stream:
                yield stream


@dataclass(frozen=True)
class Trained:
    """One trained configuration.

    Attributes
    ----------
    store : Store
    prefix : str
        Folder inside of it, ending in ``/``, or empty.
    checkpoints : dict of str to tuple of str
        File name to the folds that have it ("0", "1", …, "all").
    """

    store: Store
    prefix: str
    checkpoints: dict[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        """Name of the folder of the trained model."""
        inside = PurePosixPath(self.prefix).name
        return inside or self.store.where.name.removesuffix(".zip")

    @property
    def where(self) -> str:
        """Where it is, for messages."""
        return f"{self.store.where}" + (f" ({self.prefix.rstrip('/')})" if self.prefix else "")

    def json(self, name: str) -> dict[str, Any]:
        """Read one of its JSON files.

        Raises
        ------
        ModelError
            If it is missing, too large or damaged.
        """
        if self.prefix + name not in self.store.names():
            raise ModelError(
                f"{self.where} has no {name}, without which its networks can not be used. Copy "
                "the whole folder of the trained model, as nnU-Net left it."
            )
        try:
            content = parse_json(self.store.read(self.prefix + name))
        except ValueError as error:
            raise ModelError(
                f"{name} in {self.where} is damaged ({error}). Copy it again from where the model "
                "was trained."
            ) from None
        if not isinstance(content, dict):
            raise ModelError(
                f"{name} in {self.where} is not what nnU-Net writes there. Copy it again from "
                "where the model was trained."
            )
        return content


def find_trained(path: Path) -> list[Trained]:
    """Return the trained configurations in a folder or zip, nearest first.

    Raises
    ------
    ModelError
        If there is nothing at the path, or the zip is damaged.
    """
    if not path.exists():
        raise ModelError(f"There is no folder or file {path}. Check the path.")
    store: Store = _Folder(path) if path.is_dir() else _Zip(path)
    names = store.names()
    roots = sorted({_root(n) for n in names if PurePosixPath(n).name == PLANS})
    found = []
    for root in sorted(roots, key=lambda r: (r.count("/"), r)):
        checkpoints: dict[str, list[str]] = {}
        for name in names:
            parts = PurePosixPath(name.removeprefix(root)).parts
            fold = _FOLD.fullmatch(parts[0]) if name.startswith(root) and parts else None
            if fold and len(parts) == 2 and re.fullmatch(r"checkpoint_\w+\.pth", parts[1]):
                checkpoints.setdefault(parts[1], []).append(fold[1])
        if checkpoints:  # nnU-Net leaves both JSON files beside predictions, too
            folds = {name: tuple(sorted(f, key=_fold_order)) for name, f in checkpoints.items()}
            found.append(Trained(store, root, folds))
    # A model's own folder is meant by itself, whatever lies in folders below it.
    return found[:1] if found and not found[0].prefix else found


def recognises(path: Path) -> bool:
    """Whether a folder or zip holds a model that nnU-Net v2 trained; reads no weights."""
    try:
        return is_package(path) and bool(find_trained(path))
    except (ModelError, OSError):
        return False


def _root(name: str) -> str:
    parent = PurePosixPath(name).parent.as_posix()
    return "" if parent == "." else parent + "/"


def _fold_order(fold: str) -> tuple[bool, int]:
    return fold == "all", 0 if fold == "all" else int(fold)
