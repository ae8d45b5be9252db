"""What the user has agreed to run, by SHA-256, kept between runs."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unet_studio.errors import ConsentNeeded, ModelError, OutputError
from unet_studio.images.atomic import atomic_file
from unet_studio.models.files import read_card, read_header
from unet_studio.models.networks import CONTENT
from unet_studio.models.store import home_folder

RISK = (
    "TorchScript is a program: it can read, write and delete your files. Run it only if you "
    "trust who made it."
)

_PIECE = 1 << 20

HOW = "--set allow_torchscript=yes (in Python: allow_torchscript=True)"


def consent_path() -> Path:
    """Return the file in which consents are kept."""
    return home_folder() / "trusted_programs.json"


def has_consent(program: bytes) -> bool:
    """Whether the user has agreed to run exactly this program."""
    return hashlib.sha256(program).hexdigest() in _read()


def needs_consent(path: Path) -> bool:
    """Whether a model file holds TorchScript that the user has not agreed to run.

    The file is read piece by piece, without torch, and nothing in it is run.

    Raises
    ------
    ModelError
        If it is no model file, or damaged.
    """
    digest = _digest_of_file(path)
    return digest is not None and digest not in _read()


def allow_file(path: Path, name: str) -> None:
    """Note that the user has agreed to run the TorchScript that a model file holds, if any.

    Parameters are those of :func:`record_consent`, errors those of it and of
    :func:`needs_consent`.
    """
    digest = _digest_of_file(path)
    if digest is not None:
        _record(digest, name)


def record_consent(program: bytes, name: str) -> None:
    """Note that the user has read :data:`RISK` and agreed to run a program.

    Parameters
    ----------
    program : bytes
    name : str
        The model that it came with, for the user who looks the file through.

    Raises
    ------
    ModelError
        If it can not be kept.
    """
    _record(hashlib.sha256(program).hexdigest(), name)


def _record(digest: str, name: str) -> None:
    known = _read()
    if digest in known:
        return
    known[digest] = {"model": name, "since": datetime.now(UTC).isoformat(timespec="seconds")}
    path = consent_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as stream:
            stream.write(json.dumps(known, indent=1).encode())
    except (OSError, OutputError) as error:
        raise ModelError(
            f"Your consent can not be kept in {path}: {str(error).rstrip('.')}. Mend that, and "
            "allow the model again."
        ) from error


def require_consent(program: bytes, name: str) -> None:
    """Refuse a program that the user has not agreed to run.

    Raises
    ------
    ConsentNeeded
        Naming the risk and how to agree.
    """
    if not has_consent(program):
        raise ConsentNeeded(
            f"The model {name!r} is TorchScript and was not run. {RISK} To allow this one, choose "
            f"it in the window's list of models and press Allow, or import it again with {HOW}."
        )


def _digest_of_file(path: Path) -> str | None:
    """Return the SHA-256 of the TorchScript in a model file; None if it holds none."""
    tensors, _, start = read_header(path)
    if read_card(path).architecture != "torchscript" or CONTENT not in tensors:
        return None
    digest = hashlib.sha256()
    try:
        first, end = map(int, tensors[CONTENT]["data_offsets"])
        left = end - first
        with path.open("rb") as file:
            file.seek(start + first)
            while left > 0 and (piece := file.read(min(_PIECE, left))):
                digest.update(piece)
                left -= len(piece)
    except (TypeError, ValueError, KeyError, OSError) as error:
        raise ModelError(f"{path} can not be read ({error}). Copy or download it again.") from None
    return digest.hexdigest()


def _read() -> dict[str, Any]:
    try:
        content = json.loads(consent_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
