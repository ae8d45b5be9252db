"""Export a model as a package of the BioImage Model Zoo, format 0.5."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unet_studio.errors import ModelError, OutputError
from unet_studio.images.atomic import atomic_file
from unet_studio.images.normalisation import sample_for_statistics
from unet_studio.images.normalisers import NORMALISERS
from unet_studio.models.card import ModelCard
from unet_studio.models.exporting import Details
from unet_studio.models.model import Model
from unet_studio.models.networks import EMBEDDED
from unet_studio.models.networks.embedded import Embedded
from unet_studio.models.zoo.architecture import architecture_of
from unet_studio.models.zoo.documentation import documentation_of
from unet_studio.models.zoo.postprocessing import OBJECT_CHANNELS
from unet_studio.models.zoo.prepared import (
    made_up,
    prepared_example,
    stated_normalisation,
    takes_prepared,
)
from unet_studio.models.zoo.processing_out import postprocessing_of, preprocessing_of
from unet_studio.models.zoo.program_out import (
    PROGRAM_FILES,
    batch_axis,
    channel_names,
    every_channel,
    laid_out,
    length_near,
    length_within,
    lengths_of,
    letters_of,
    program_entry,
    stated_halos,
)
from unet_studio.models.zoo.programs import (
    OPSET,
    onnx_program,
    state_dict_bytes,
    torchscript_program,
)
from unet_studio.models.zoo.validation import spdx_licence, validate_package
from unet_studio.models.zoo.yaml import write_yaml

# Readers take later ones of 0.5 too, and older ones understand most of it.
FORMAT = "0.5.4"
_TEST_EDGE = {2: 256, 3: 32}
_DOI = re.compile(r"\b10\.\d{4,9}/[^\s;,]+[^\s;,.)]")
_UNET_PAPER = {
    "text": "Ronneberger, Fischer & Brox: U-Net: Convolutional Networks for Biomedical Image "
    "Segmentation. MICCAI 2015.",
    "doi": "10.1007/978-3-319-24574-4_28",
}
# The date of zip members: the same model gives the same bytes.
_DATE = (2020, 1, 1, 0, 0, 0)


def export_bioimageio(
    model: Model,
    target: Path,
    *,
    example: NDArray[Any] | None = None,
    details: Details | None = None,
    step: Callable[[str], None] = lambda what: None,
) -> Path:
    """Write a model as a valid package: weights in three formats, test data, documentation.

    A model that came as a program goes out as that program.

    Parameters
    ----------
    model : Model
    target : Path
        Ends in ``.zip``. Replaced only once the package is complete and valid.
    example : array, axes (C, [Z,] Y, X), optional
        Image for test data and cover; each length is cut to what the network takes. By
        default a made-up texture.
    details : Details, optional
    step : callable, optional
        Is told what is done next; whatever it raises ends the export.

    Returns
    -------
    Path
        ``target``.

    Raises
    ------
    ModelError
        If the format can not say what the model needs, or the package would not be valid.
    """
    if target.suffix != ".zip":
        raise ModelError(f"{target.name} should end in .zip.")
    stated_licence(model.card, details or Details())  # before work is done for nothing
    image = _example(model, example)
    step("running the test image")
    probabilities = _predicted(model, image)
    files = _files(model, image, probabilities, step)
    values = _description(model, details or Details(), files, probabilities.shape[1])
    files["rdf.yaml"] = write_yaml(values)
    step("checking the package")
    validate_package(files)
    step("writing the package")
    try:
        with atomic_file(target) as stream, zipfile.ZipFile(stream, "w") as archive:
            for name, content in files.items():
                member = zipfile.ZipInfo(name, _DATE)
                member.external_attr = 0o644 << 16
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, content)
    except OutputError as error:
        raise ModelError(str(error)) from error
    return target


def _files(
    model: Model,
    image: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    step: Callable[[str], None],
) -> dict[str, bytes]:
    card = model.card
    given, returned = letters_of(card)
    return {
        **_weight_files(model, step),
        "test_input.npy": _npy(laid_out(image, given, card.ndim)),
        "test_output.npy": _npy(laid_out(probabilities, returned, card.ndim)),
        "cover.png": _cover(image, probabilities),
        "README.md": documentation_of(card).encode(),
    }


def _weight_files(model: Model, step: Callable[[str], None]) -> dict[str, bytes]:
    if isinstance(model.network, Embedded):
        return {PROGRAM_FILES[model.card.architecture]: model.network.program()}
    files = {"weights.pt": state_dict_bytes(model.network)}
    step("writing ONNX")
    files["weights.onnx"] = onnx_program(model)
    step("writing TorchScript")
    files["weights.torchscript.pt"] = torchscript_program(model)
    return {**files, **architecture_of(model.card)[1]}


def _example(model: Model, given: NDArray[Any] | None) -> NDArray[np.float32]:
    """Return the test image, axes (1, C, [Z,] Y, X), of lengths that the network takes."""
    card = model.card
    taken = lengths_of(card)
    if given is None:
        usual = [-(-_TEST_EDGE[card.ndim] // stride) * stride for stride in card.strides]
        return made_up(card, tuple(map(length_near, usual, taken)))
    if given.ndim != card.ndim + 1 or given.shape[0] != card.in_channels:
        raise ModelError(
            f"The example has the shape {given.shape}; it should be {card.in_channels} "
            f"channel(s), then {card.ndim} spatial axes."
        )
    image = prepared_example(card, np.asarray(given, np.float32))
    lengths = list(map(length_within, image.shape[1:], taken))
    if not all(lengths):
        least = tuple(t if isinstance(t, int) else t[0] for t in taken)
        raise ModelError(f"The example is {image.shape}; its edges should be {least} or more.")
    inside = (slice(None), *(slice(0, n) for n in lengths))
    return np.ascontiguousarray(image[inside])[None]


def _predicted(model: Model, image: NDArray[np.float32]) -> NDArray[np.float32]:
    normalisation = stated_normalisation(model.card)
    normaliser = NORMALISERS.load(normalisation.method)
    scaling = normaliser(sample_for_statistics(image[0]), **normalisation.options)
    with torch.inference_mode():
        raw = every_channel(model, torch.from_numpy(scaling.apply(image[0]))[None])
        if model.card.output == "logits":
            classes = model.card.representation == "classes"
            raw = raw.softmax(dim=1) if classes else raw.sigmoid()
    return np.asarray(raw.numpy(), np.float32)


def _description(
    model: Model, details: Details, files: Mapping[str, bytes], channels: int
) -> dict[str, Any]:
    card = model.card
    values: dict[str, Any] = {
        "type": "model",
        "format_version": FORMAT,
        "name": _plain_name(card.name),
        "description": _summary(card),
        "authors": _authors(details.authors or _names(card.authors)),
        "cite": _citations(card.citation),
        "documentation": "README.md",
        "covers": ["cover.png"],
        "tags": list(dict.fromkeys((*details.tags, "segmentation", "unet", f"{card.ndim}d"))),
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": [_input(card, files)],
        "outputs": [_output(card, files, channels)],
        "weights": _weights(card, files),
        "config": {"unet_studio": {"card": card.model_dump(mode="json")}},
    }
    if licence := stated_licence(card, details):
        values["license"] = licence
    if details.maintainer:
        values["maintainers"] = [{"github_user": details.maintainer}]
    return values


def stated_licence(card: ModelCard, details: Details) -> str | None:
    """Return the licence that a package states: None where the card's is no SPDX identifier.

    Raises
    ------
    ModelError
        If the one that the user wants is none.
    """
    licence = spdx_licence(details.licence or card.licence)
    if details.licence and licence is None:
        raise ModelError(
            f"The licence {details.licence!r} is no SPDX identifier, which a package needs, such "
            "as CC-BY-4.0 or CC0-1.0 (see spdx.org/licenses)."
        )
    return licence


def _summary(card: ModelCard) -> str:
    prepared = " It takes prepared images: see the documentation." * takes_prepared(card)
    said = card.description or f"Finds {', '.join(card.classes)}."
    return said[: 1024 - len(prepared)] + prepared


def _file(name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}


def _input(card: ModelCard, files: Mapping[str, bytes]) -> dict[str, Any]:
    colours = ["red", "green", "blue"] if card.colour else []
    names = colours or [f"channel{i}" for i in range(card.in_channels)]
    sizes: list[Any] = [
        t if isinstance(t, int) else {"min": t[0], "step": t[1]} for t in lengths_of(card)
    ]
    space = [{**axis, "size": size} for axis, size in zip(_space(card), sizes, strict=True)]
    return {
        "id": "image",
        "description": "The image as README.md prepares it, not as it was recorded."
        if takes_prepared(card)
        else "The image as it is; it is normalised as described.",
        "axes": _axes(card, letters_of(card)[0], names, space),
        "data": {"type": "float32"},
        "test_tensor": _file("test_input.npy", files),
        "preprocessing": preprocessing_of(card),
    }


def _output(card: ModelCard, files: Mapping[str, bytes], channels: int) -> dict[str, Any]:
    known = OBJECT_CHANNELS if card.representation == "objects" else card.classes
    space = [
        {
            **axis,
            "size": {"tensor_id": "image", "axis_id": axis["id"]},
            **({"halo": halo} if halo else {}),
        }
        for axis, halo in zip(_space(card), stated_halos(card), strict=True)
    ]
    names = channel_names(card, tuple(known), channels)
    return {
        "id": "probabilities",
        "description": "Probability of each channel.",
        "axes": _axes(card, letters_of(card)[1], names, space),
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": _file("test_output.npy", files),
        "postprocessing": postprocessing_of(card),
    }


def _axes(
    card: ModelCard, letters: str, names: list[str], space: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the axes of a tensor, in the order of ``letters``."""
    axes = {"b": batch_axis(card), "c": {"type": "channel", "channel_names": names}}
    axes |= {axis["id"]: axis for axis in space}
    return [axes[letter] for letter in letters]


def _space(card: ModelCard) -> list[dict[str, Any]]:
    letters = "zyx"[-card.ndim :]
    if card.voxel_size is None:
        return [{"type": "space", "id": letter} for letter in letters]
    return [
        {"type": "space", "id": letter, "unit": "micrometer", "scale": float(size)}
        for letter, size in zip(letters, card.voxel_size, strict=True)
    ]


def _weights(card: ModelCard, files: Mapping[str, bytes]) -> dict[str, Any]:
    if card.architecture in EMBEDDED:
        name = PROGRAM_FILES[card.architecture]
        return program_entry(card, files[name], _file(name, files))
    version = torch.__version__.partition("+")[0]
    described, sources = architecture_of(card)
    architecture = dict(described)
    if "source" in architecture:
        architecture |= _file(str(architecture["source"]), files)
    state_dict = {**_file("weights.pt", files), "architecture": architecture,
                  "pytorch_version": version}  # fmt: skip
    if "environment.yaml" in sources:
        state_dict["dependencies"] = _file("environment.yaml", files)
    parent = {"parent": "pytorch_state_dict"}
    return {
        "pytorch_state_dict": state_dict,
        "onnx": {**_file("weights.onnx", files), **parent, "opset_version": OPSET},
        "torchscript": {**_file("weights.torchscript.pt", files), **parent,
                        "pytorch_version": version},
    }  # fmt: skip


def _plain_name(name: str) -> str:
    plain = re.sub(r"[^\w+\- ()]+", "-", name, flags=re.ASCII).strip() or "model"
    return plain if len(plain) >= 5 else f"{plain} model"


def _names(authors: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in re.split(r",|;| and ", authors) if part.strip())


def _authors(names: Sequence[str]) -> list[dict[str, str]]:
    return [{"name": name} for name in names] or [{"name": "unknown"}]


def _citations(citation: str) -> list[dict[str, str]]:
    entries = []
    for part in citation.split(";"):
        found = _DOI.search(part)
        if found:
            text = part.replace(found[0], "").replace("doi:", "").strip(" ,.;")
            entries.append({"text": text or found[0], "doi": found[0]})
    return [*entries, _UNET_PAPER]


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _cover(image: NDArray[np.float32], probabilities: NDArray[np.float32]) -> bytes:
    """Return a picture of image and first probability side by side."""
    panes = []
    for values in (image[0, 0], probabilities[0, -1]):
        plane = values[len(values) // 2] if values.ndim == 3 else values
        low, high = float(plane.min()), float(plane.max())
        grey = (plane - low) / (high - low or 1) * 255
        edge = min(grey.shape)
        panes.append(grey[:edge, :edge].round().astype(np.uint8))
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.concatenate(panes, axis=1)).save(stream, "PNG")
    return stream.getvalue()
