"""The brain MRI model of torch.hub: where its weights are, and what becomes of them.

``mateuszbuda/brain-segmentation-pytorch`` marks FLAIR abnormality (lower-grade glioma)
in slices of three sequences: before contrast, FLAIR, after contrast. The weights are
not shipped; they are fetched from the authors' release, checked, and turned into a
model file with all that is needed to run them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.errors import UNetStudioError
from unet_studio.models.card import ModelCard
from unet_studio.models.importing import Importer, ImportRequest
from unet_studio.models.partial import file_sha256
from unet_studio.recipe import Normalisation, ObjectsMethod, Preparation

if TYPE_CHECKING:
    from unet_studio.models.model import Model

NAME = "brain-mri"
URL = (
    "https://github.com/mateuszbuda/brain-segmentation-pytorch/releases/download/v1.0/"
    "unet-e012d006.pt"
)
# torch.hub's convention: the file name ends in the first digits of the file's SHA-256.
SHA256_PREFIX = "e012d006"
# 31 MB as released; no more than this is downloaded or read.
SIZE_LIMIT = 64 * 2**20

_DESCRIPTION = (
    "FLAIR abnormality (lower-grade glioma) in brain MRI. Channels: before contrast, FLAIR, "
    "after contrast. Give whole slices, best as a volume: of a single slice the intensities "
    "are less sure. The authors give a mean Dice of 0.91 on 10 cases, by which the model had "
    "also been chosen. Not a medical device: do not use it for diagnosis."
)
_CITATION = (
    "Buda, Saha & Mazurowski, Association of genomic subtypes of lower-grade gliomas with shape "
    "features automatically extracted by a deep learning algorithm. Computers in Biology and "
    "Medicine 109 (2019)."
)


def card(**changes: Any) -> ModelCard:
    """Return the card of the model, before its network is measured."""
    fields = {
        "name": NAME,
        "architecture": "hub-unet",
        "options": {"features": 32},
        "in_channels": 3,
        "representation": "binary",
        "classes": ("FLAIR abnormality",),
        # All is done by the preparation.
        "normalisation": Normalisation(method="fixed"),
        "preparation": Preparation(method="brain-mri"),
        "objects": ObjectsMethod(method="threshold", options={"keep_largest": True}),
        "licence": "MIT (code repository; the weights come with no other licence)",
        "citation": _CITATION,
        "authors": "Mateusz Buda, Ashirbani Saha, Maciej A. Mazurowski",
        "training_data": "TCGA-LGG, 110 patients",
        "description": _DESCRIPTION,
        "source": URL,
    }
    return ModelCard.model_validate({**fields, **changes})


def is_released(path: Path) -> bool:
    """Whether a file is that of the released weights, by the first digits of its SHA-256."""
    try:
        if not path.is_file() or path.stat().st_size > SIZE_LIMIT:
            return False
        return file_sha256(path).startswith(SHA256_PREFIX)
    except (OSError, UNetStudioError):
        return False


def brain_mri_model(path: Path) -> Model:
    """Return the model of the released weights, or of others of the same network.

    Parameters
    ----------
    path : Path
        The ``.pt`` file.

    Raises
    ------
    ModelError
        If the file is damaged, or does not fit the network.
    """
    from unet_studio.models.foreign.containers import read_weights
    from unet_studio.models.foreign.convert import assemble

    found = read_weights(path)
    return assemble(card(), found.weights, path, notes=found.notes)


def _convert(request: ImportRequest) -> tuple[str, ...]:
    from unet_studio.models.foreign import import_weights, save_imported

    if request.options:  # the user knows better than the card
        return import_weights(request)
    return save_imported(brain_mri_model(request.source), request)


IMPORTER = Importer(
    "the brain MRI model of torch.hub (unet-e012d006.pt)", (".pt",), is_released, _convert
)
