"""Model files: one ``.safetensors`` with the weights and, in its header, the card.

The header is read here without torch, so that models can be listed and plans
made before torch is imported. The header also carries the SHA-256 of the
weights: the format itself notices no flipped bit.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from unet_studio.errors import ModelError, OutputError, cannot_read
from unet_studio.images.atomic import atomic_file
from unet_studio.models.card import ModelCard
from unet_studio.plain_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

SUFFIX = ".safetensors"
_CARD_KEY = "unet_studio_card"
_HASH_KEY = "unet_studio_weights_sha256"
_HEADER_LIMIT = 100_000_000  # the format's own limit
_PREFIX = struct.Struct("<Q")


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Read the header of a safetensors file.

    Returns
    -------
    tensors : dict
        Name to dtype, shape and offsets.
    metadata : dict of str
    start : int
        Offset of the first byte of the weights.

    Raises
    ------
    ModelError
        If the file is missing, empty, truncated or not of this format.
    """
    with _opened(path) as file:
        return _header_in(path, file)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """Open a model file; what keeps it from being read is told in words.

    Whoever needs more than the header reads it from the same open file: another process
    may put a new version in the place of this one meanwhile.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ModelError(  # a pipe would hang
            f"{path} is not a file, and was not opened. Give the path of a {SUFFIX} file."
        )
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise ModelError(
            f"There is no model file {path}. Check the path; "
            "`unet-studio models list` names the models that are here."
        ) from None
    except OSError as error:
        raise cannot_read(path, error) from error
    except MemoryError as error:
        raise ModelError(
            f"There is not enough memory to load {path}. Close other programs, or choose a "
            "smaller model."
        ) from error


def _header_in(path: Path, file: BufferedReader) -> tuple[dict[str, Any], dict[str, str], int]:
    """Read the header from the start of an open file, which is left behind the header."""
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(_PREFIX.size)
    if not prefix:
        raise ModelError(f"{path} is empty (0 bytes). Copy or download it again.")
    length = _PREFIX.unpack(prefix)[0] if len(prefix) == _PREFIX.size else 0
    if not 2 <= length <= min(_HEADER_LIMIT, size):
        raise _not_a_model(path, prefix)
    try:
        header = parse_json(file.read(length))
    except ValueError:
        raise _not_a_model(path, prefix) from None
    if not isinstance(header, dict):
        raise _not_a_model(path, prefix)
    metadata = header.pop("__metadata__", {})
    start = _PREFIX.size + length
    _check_extent(path, header, size - start)
    return header, metadata if isinstance(metadata, dict) else {}, start


def _check_extent(path: Path, tensors: Mapping[str, Any], present: int) -> None:
    try:
        declared = max((int(t["data_offsets"][1]) for t in tensors.values()), default=0)
    except (TypeError, LookupError, ValueError, OverflowError):
        raise ModelError(
            f"The header of {path} is damaged. Copy or download the file again."
        ) from None
    if declared != present:
        raise ModelError(
            f"{path} is {'truncated' if present < declared else 'too long'}: it holds {present:,} "
            f"bytes of weights where {declared:,} are declared. Copy or download it again."
        )


def _not_a_model(path: Path, prefix: bytes) -> ModelError:
    if prefix.lstrip()[:1] == b"<":
        reason = "it looks like a web page, perhaps a login or error page saved by a download"
    elif prefix[:2] == b"PK" or prefix[:1] == b"\x80":
        reason = (
            "it looks like a zip, or weights that PyTorch saved; `unet-studio models import` "
            "makes a model of those that are known"
        )
    else:
        reason = "it is of another kind, or damaged"
    return ModelError(
        f"{path} is not a model file: {reason}. Give one that ends in {SUFFIX}, or import it."
    )


def read_card(path: Path) -> ModelCard:
    """Read only the card of a model file.

    Raises
    ------
    ModelError
        If the file is damaged or carries no card of ours.
    """
    return _card_of(path, read_header(path)[1])


def weights_hash(path: Path) -> str:
    """Return the SHA-256 of a model file's weights as it was written, empty if not noted.

    Two files with the same weights have the same, whatever their cards say.

    Raises
    ------
    ModelError
        If the file is missing, damaged, or no model file.
    """
    _, metadata, _ = read_header(path)
    return metadata.get(_HASH_KEY, "")


def has_card(path: Path, *, strict: bool = False) -> bool:
    """Whether a file is a model file of ours.

    Parameters
    ----------
    path : Path
    strict : bool
        Raise what is wrong with it instead of returning False.

    Raises
    ------
    ModelError
    """
    try:
        read_card(path)
    except ModelError:
        if strict:
            raise
        return False
    return True


def verify_file(path: Path) -> ModelCard:
    """Check a whole model file without torch, piece by piece, and return its card.

    Raises
    ------
    ModelError
        If it is damaged, or its weights are no longer those that were saved.
    """
    with _opened(path) as file:
        _, metadata, _ = _header_in(path, file)
        card = _card_of(path, metadata)
        expected = metadata.get(_HASH_KEY)
        if expected and hashlib.file_digest(file, "sha256").hexdigest() != expected:
            raise _changed(path)
    return card


def _changed(path: Path) -> ModelError:
    return ModelError(
        f"The weights in {path} have changed since they were saved (their SHA-256 differs): "
        "the file is damaged. Copy or download it again."
    )


def _card_of(path: Path, metadata: Mapping[str, str]) -> ModelCard:
    if _CARD_KEY not in metadata:
        raise ModelError(
            f"{path} holds weights but no model card, so how to run them is unknown. "
            "Use a model file written by U-Net Studio."
        )
    try:
        return ModelCard.model_validate_json(metadata[_CARD_KEY])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "card"
        raise ModelError(
            f"The model card in {path} can not be used: {place}: {first['msg']}. It may come "
            "from a newer version of U-Net Studio; update, or get the file again."
        ) from None


def read_model_file(path: Path) -> tuple[ModelCard, dict[str, torch.Tensor], str]:
    """Read card and weights, and check that no bit has changed.

    Returns
    -------
    card : ModelCard
    weights : dict of tensor
    sha256 : str
        Of the whole file.

    Raises
    ------
    ModelError
        If the file is missing, damaged, changed, or carries no card.
    """
    import safetensors
    import safetensors.torch

    with _opened(path) as file:
        _, metadata, start = _header_in(path, file)
        card = _card_of(path, metadata)
        file.seek(0)
        content = file.read()
        expected = metadata.get(_HASH_KEY)
        if expected and hashlib.sha256(content[start:]).hexdigest() != expected:
            raise _changed(path)
        try:
            weights = safetensors.torch.load(content)
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise ModelError(
                f"The weights in {path} can not be read: {error}. Copy or download it again."
            ) from error
    return card, weights, hashlib.sha256(content).hexdigest()


def write_model_file(card: ModelCard, weights: Mapping[str, torch.Tensor], path: Path) -> str:
    """Write one model file, atomically.

    Parameters
    ----------
    card : ModelCard
    weights : mapping of str to tensor
    path : Path
        Must end in ``.safetensors``. An existing file is replaced only once
        the new one is complete on disk.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    ModelError
        If the path can not be written.
    """
    import safetensors.torch

    if path.suffix != SUFFIX:
        raise ModelError(f"{path.name} should end in {SUFFIX}.")
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    draft = safetensors.torch.save(tensors)
    length = int(_PREFIX.unpack(draft[: _PREFIX.size])[0])
    payload = draft[_PREFIX.size + length :]
    header = json.loads(draft[_PREFIX.size : _PREFIX.size + length])
    metadata = {
        _CARD_KEY: card.model_dump_json(),
        _HASH_KEY: hashlib.sha256(payload).hexdigest(),
    }
    # Written here, because the library orders metadata at random: the same model
    # should give the same bytes, and so the same SHA-256.
    raw = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    content = _PREFIX.pack(len(raw)) + raw + payload
    try:
        with atomic_file(path) as stream:
            stream.write(content)
    except OutputError as error:
        raise ModelError(str(error)) from error
    return hashlib.sha256(content).hexdigest()
