"""Import a package of the BioImage Model Zoo as a model of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError

from unet_studio.errors import ModelError
from unet_studio.models.card import ModelCard
from unet_studio.models.model import Model
from unet_studio.models.networks.embedded import Embedded
from unet_studio.models.probe import probe_network
from unet_studio.models.zoo.advice import MENDED
from unet_studio.models.zoo.arrays import read_npy
from unet_studio.models.zoo.black_box import measure_program
from unet_studio.models.zoo.description import Description, parse_description
from unet_studio.models.zoo.package import Contents, is_description, open_files
from unet_studio.models.zoo.postprocessing import Output, map_postprocessing
from unet_studio.models.zoo.preprocessing import map_preprocessing
from unet_studio.models.zoo.tensors import FileEntry
from unet_studio.models.zoo.trial import choose_weights
from unet_studio.models.zoo.weights import (
    Choice,
    Loaded,
    loadable_weights,
    own_card,
    spatial_patch,
)
from unet_studio.user_paths import user_path

_LARGEST_TEST = 512 * 2**20
_RED_GREEN_BLUE = ("red", "green", "blue")
_UNITS = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3}


def import_package(
    source: str | Path,
    *,
    name: str | None = None,
    weights: str | None = None,
    state_dict: str | Path | None = None,
    allow_torchscript: bool = False,
    download: bool = False,
    channel: int | None = None,
) -> Model:
    """Import a package: a zip, a folder, or the description in a folder.

    No code of the package is run, nothing is downloaded unasked, nothing is unpacked.

    Parameters
    ----------
    source : str or Path
    name : str, optional
        What to call the model; its own name by default.
    weights : {"pytorch_state_dict", "onnx", "torchscript"}, optional
        Which of its weights; by default the first of these that can be run.
    state_dict : str or Path, optional
        A state dict to use in the place of the one that the description names.
    allow_torchscript : bool
        Run TorchScript, which can do anything that you can. Recorded for this file.
    download : bool
        Fetch weights that the package only names by their web address.
    channel : int, optional
        Of several independent output channels the one that is taken, from 0.

    Returns
    -------
    Model
        Not saved yet. Its notes say what was found and left out; ``training`` in its
        card holds the comparison with the package's own test image.

    Raises
    ------
    ModelError
        If the package is damaged, not to be trusted, or can not be run exactly.
    """
    path = user_path(source)
    own_file = user_path(state_dict) if state_dict else None
    choice = Choice(weights, own_file, allow_torchscript, download, channel)
    with open_files(path) as package:
        contents = Contents(package, path.name, path.name if is_description(path) else None)
        description = parse_description(contents.values, path.name)
        image, expected, notes = _tests(contents, description)
        own = own_card(description)
        told: tuple[str, ...]
        if own is not None:
            output = Output(
                own.output, own.representation, own.classes, channel=own.options.get("channel")
            )
            card, told = own, ("The package was made by U-Net Studio; its model card was taken.",)
        else:
            output = map_postprocessing(description.output, expected, channel)
            card, told = _card(description, output)
        images = None if image is None or expected is None else (image, expected)
        chosen = choose_weights(
            loadable_weights(contents, description, card, choice), description, output, images
        )
    loaded = _finished(chosen.loaded, description, name, path)
    record = {"weights": loaded.format, "format": description.format, **chosen.record}
    card = loaded.card
    card = card.model_copy(
        update={
            "training": {**card.training, "bioimage_io": record},
            "notes": (*card.notes, *chosen.lasting),
        }
    )
    told = (*notes, *told, *output.notes, *loaded.notes)
    told = (*told, f"The weights were taken from {loaded.format}.", *chosen.notes)
    return Model(card, loaded.network, notes=told)


def _card(description: Description, output: Output) -> tuple[ModelCard, tuple[str, ...]]:
    """Return the card as far as the description tells, and what is to be told."""
    given = description.input
    normalisation, notes = map_preprocessing(given, description.format)
    ndim = len(given.spatial)
    names = tuple(n.lower() for n in given.channel_names)
    try:
        card = ModelCard(
            name=description.name,
            architecture="onnx",  # until weights are chosen
            in_channels=given.channels,
            ndim=3 if ndim == 3 else 2,
            representation=output.representation,
            classes=output.classes,
            colour=names == _RED_GREEN_BLUE,
            normalisation=normalisation,
            output=output.output,
            objects=output.objects,
            patch=spatial_patch(given, ndim),
            voxel_size=_voxel_size(description),
            description=description.description,
            licence=description.licence,
            citation=description.citation,
            authors=description.authors,
        )
    except ValidationError as error:
        raise ModelError(
            f"The package makes no model: {error.errors()[0]['msg']}. {MENDED}"
        ) from None
    if description.outputs > 1:
        notes = (*notes, f"The network returns {description.outputs} images; the first is taken.")
    return card, notes


def _voxel_size(description: Description) -> tuple[float, ...] | None:
    axes = description.input.spatial
    if any(axis.unit not in _UNITS for axis in axes):
        return None
    return tuple(axis.scale * _UNITS[str(axis.unit)] for axis in axes)


def _finished(loaded: Loaded, description: Description, name: str | None, path: Path) -> Loaded:
    """Measure a network, and complete its card."""
    card, network = loaded.card, loaded.network
    card = card.model_copy(
        update={"name": name or card.name, "source": f"bioimage.io: {path.name}"}
    )
    own = own_card(description)
    if own is not None and own.architecture == card.architecture:
        measured = {}  # measured when it was made
    elif isinstance(network, Embedded):
        measured = measure_program(network, card)
    else:
        measured = probe_network(network, card).card_fields()
    card = card.model_copy(update=measured)
    if isinstance(network, Embedded):
        network.card = card
    return Loaded(card, network, loaded.format, loaded.notes)


def _tests(
    contents: Contents, description: Description
) -> tuple[NDArray[Any] | None, NDArray[Any] | None, tuple[str, ...]]:
    """Return the package's test image and output, and what is missing of them."""

    def read(entry: FileEntry | None) -> NDArray[Any] | None:
        if entry is None or not contents.has(entry.source):
            return None
        where = f"{entry.source} in {contents.where}"
        content = contents.read(entry.source, entry.sha256, _LARGEST_TEST)
        return read_npy(content, where)

    image, expected = read(description.input.test), read(description.output.test)
    if image is None or expected is None:
        note = "The package has no test image, so whether its model runs as it should is unknown."
        return None, None, (note,)
    return image, expected, ()
