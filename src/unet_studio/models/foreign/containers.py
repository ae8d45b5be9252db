"""Open weight files of others: what is in the file, without ever running it.

Only tensors come out: of ``.safetensors``, and of what ``torch.save`` writes
(``.pt``, ``.pth``, ``.ckpt``, ``.bin``), read with ``weights_only=True``. What a file
is, its first bytes say, not its name.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unet_studio.errors import ModelError, cannot_read
from unet_studio.images.limits import available_memory, readable_size
from unet_studio.models.archives import UNREADABLE_ZIP
from unet_studio.models.files import read_header
from unet_studio.models.foreign.names import find_weights

# Older ones can be made to run code even so (CVE-2025-32434, CVE-2026-24747).
_SAFE_TORCH = (2, 10)
# A weight file is as large as its weights; what declares much more is not one.
_SLACK = 1.25
_EXPORT = (
    "Where the model was made, save its weights alone: "
    "torch.save(model.state_dict(), 'weights.pt'), and import that file."
)
_KINDS = {"quantized": "quantised", "nested": "nested"}
_AGAIN = "Copy or download it again."
_OTHERS = (
    (b"\x89HDF", "an HDF5 file, as Keras writes them; only PyTorch weights can be used"),
    (b"GGUF", "a GGUF file; only PyTorch weights can be used"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
)


@dataclass(frozen=True)
class Weights:
    """What was found in a file.

    Attributes
    ----------
    weights : dict of str to tensor
        On the CPU, or without memory ("meta") where only shapes were asked for.
    notes : tuple of str
        What was left out or renamed on the way, for the user.
    """

    weights: dict[str, torch.Tensor]
    notes: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape."""
        return {name: tuple(value.shape) for name, value in self.weights.items()}


def kind_of(path: Path) -> str:
    """Return "safetensors", "torch" (zip), "torch-legacy" (pickle) or "torchscript".

    Raises
    ------
    ModelError
        If the file is missing, empty, or of another kind; the message says which.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ModelError(  # a pipe would hang
            f"{path} is not a file, and was not opened. Give a file with weights."
        )
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(512)
            stream.seek(max(0, min(257, size)))
            is_tar = stream.read(5) == b"ustar"
    except FileNotFoundError:
        raise ModelError(f"There is no file {path}. Check the spelling.") from None
    except OSError as error:
        raise cannot_read(path, error) from None
    if not head:
        raise ModelError(f"{path} is empty (0 bytes). {_AGAIN}")
    if re.match(rb"\s*<[!?a-z]", head, re.IGNORECASE) and b"\0" not in head[:8]:
        raise ModelError(
            f"{path} is a web page, perhaps of a login or an error, saved under this name. "
            "Download the weights themselves."
        )
    for magic, words in _OTHERS:
        if head.startswith(magic):
            raise ModelError(f"{path} is {words}.")
    if is_tar:
        raise ModelError(
            f"{path} is a tar file. torch wrote weights so before 2017, and can not open them "
            f"safely any more. {_EXPORT}"
        )
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if head.startswith(b"\x80"):
        return "torch-legacy"
    length = int.from_bytes(head[:8], "little")
    if len(head) > 8 and 2 <= length <= size and head[8:9] == b"{":
        return "safetensors"
    raise ModelError(
        f"{path} holds no PyTorch weights: it is of another kind, or damaged. {_AGAIN} "
        "What can be used: .safetensors, and state dicts saved by torch (.pt, .pth, .ckpt, .bin)."
    )


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except UNREADABLE_ZIP:
        raise ModelError(
            f"{path} is truncated or damaged: its archive has no end. {_AGAIN}"
        ) from None
    names = [m.filename.rpartition("/")[2] for m in members]
    if "constants.pkl" in names:
        return "torchscript"
    if "data.pkl" not in names:
        rdf = any(n.lower() in ("rdf.yaml", "bioimageio.yaml") for n in names)
        if rdf:
            raise ModelError(
                f"{path} is a package of the BioImage Model Zoo. Give it the ending .zip, and "
                "import that."
            )
        raise ModelError(
            f"{path} is a zip without weights that PyTorch saved. Unpack it, and import what is "
            "in it."
        )
    packed, unpacked = path.stat().st_size, sum(m.file_size for m in members)
    if unpacked > _SLACK * packed + 2**20:  # torch does not compress
        raise ModelError(
            f"{path} would unpack to {readable_size(unpacked)}, far more than its "
            f"{readable_size(packed)}: torch writes no such files, and it was not opened. {_AGAIN}"
        )
    return "torch"


def read_shapes(path: Path) -> Weights:
    """Read only names and shapes: no memory is taken for the weights.

    Raises
    ------
    ModelError
        As :func:`read_weights`.
    """
    kind = kind_of(path)
    found = _safe_shapes(path) if kind == "safetensors" else _load(path, kind, "meta")
    shapes = find_weights(found, path)
    numbers = sum(value.numel() for value in shapes.weights.values())
    if numbers > _SLACK * path.stat().st_size + 2**20:  # a byte or more for each
        raise ModelError(
            f"{path} of {readable_size(path.stat().st_size)} declares {numbers:,} weights, more "
            f"than it can hold: it was made wrongly or to do harm, and was not opened. {_AGAIN}"
        )
    return shapes


def read_weights(path: Path) -> Weights:
    """Read the weights of a file.

    Parameters
    ----------
    path : Path
        ``.safetensors``, or a state dict or checkpoint that torch wrote.

    Raises
    ------
    ModelError
        If it is missing, damaged, too large for the memory there is, of another
        kind, or holds no weights; the message says what to do.
    """
    _check_memory(path, read_shapes(path).weights)
    kind = kind_of(path)
    if kind != "safetensors":
        return find_weights(_load(path, kind, "cpu"), path)
    import safetensors
    import safetensors.torch

    try:
        found = safetensors.torch.load(path.read_bytes())
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"The weights in {path} can not be read: {error}. {_AGAIN}") from None
    return find_weights(found, path)


def _safe_shapes(path: Path) -> dict[str, torch.Tensor]:
    """Return tensors without memory, of the shapes that a safetensors header gives."""
    import safetensors

    read_header(path)  # says what is wrong in our words, where it is something frequent
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise ModelError(f"The header of {path} is damaged: {error}. {_AGAIN}") from None
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _check_memory(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse more weights than there is memory for, as they are and as float32."""
    needed = path.stat().st_size + 4 * sum(value.numel() for value in weights.values())
    free = available_memory()
    if needed > free:
        raise ModelError(
            f"The weights in {path} need about {readable_size(needed)} of memory, but "
            f"{readable_size(free)} are free. Close other programs."
        )


def _load(path: Path, kind: str, device: str) -> Any:
    if kind == "torchscript":
        raise ModelError(
            f"{path} is a TorchScript archive: a program with its weights, which would have to be "
            f"run to be used. It was not opened. {_EXPORT}"
        )
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < _SAFE_TORCH:
        raise ModelError(
            f"torch {torch.__version__} can not open {path} safely. Update torch to "
            f"{'.'.join(map(str, _SAFE_TORCH))} or later, or convert the file to .safetensors."
        )
    try:
        # From a stream: of a path, torch would believe the suffix. It warns of kinds of tensors
        # that are refused afterwards, in our words.
        with path.open("rb") as stream, warnings.catch_warnings(action="ignore"):
            return torch.load(stream, map_location=device, weights_only=True)
    except Exception as error:  # the unpickler of torch raises whatever it meets
        raise ModelError(_refusal(path, error)) from None


_REFUSALS: tuple[tuple[str, Callable[[Path, str], str]], ...] = (
    (
        r"(?:GLOBAL|Unsupported global:? GLOBAL|Unsupported class) ([\w.]+)",
        lambda path, name: (
            f"{path} holds more than weights: an object of {name}, which only running its code "
            f"could make. That was not done. {_EXPORT}"
        ),
    ),
    (
        r"(legacy .tar format|not in a subdirectory|Unsupported operand|Invalid magic number)",
        lambda path, _: (
            f"{path} was not written by torch.save, or by a very old one, and can not be opened "
            f"safely. {_EXPORT}"
        ),
    ),
    (
        r"aten::\w*?(quantized|nested)",  # they have no shape without their numbers
        lambda path, kind: (
            f"{path} holds {_KINDS[kind]} tensors, and is of a kind that can not be used. "
            "Save the weights as float32."
        ),
    ),
)


def _refusal(path: Path, error: Exception) -> str:
    """Say in our words why torch did not open a file: its own advise to trust it."""
    text = str(error)
    for pattern, words in _REFUSALS:
        if match := re.search(pattern, text):
            return words(path, match[1])
    return (
        f"{path} can not be opened: it is truncated or damaged, or holds more than plain tensors. "
        f"{_AGAIN}"
    )
