"""What a file is that no importer takes, and what its owner can do. No torch here."""

from __future__ import annotations

import re
from pathlib import Path

from unet_studio.models.archives import is_package, open_package

_SEGMENT = "To segment it: unet-studio segment PATH --model NAME."
_AGAIN = "Copy or download it again."
_RENAME = "seems to hold weights that PyTorch saved. Give it the ending .pt, and import that."
_MAGIC = (
    (b"\xff\xd8\xff", f"is a picture (JPEG), not a model. {_SEGMENT}"),
    (b"\x89PNG", f"is a picture (PNG), not a model. {_SEGMENT}"),
    (b"II*\0", f"is a picture (TIFF), not a model. {_SEGMENT}"),
    (b"MM\0*", f"is a picture (TIFF), not a model. {_SEGMENT}"),
    (b"\x93NUMPY", "is an array of numpy, not a model."),
    (
        b"\x89HDF",
        "is an HDF5 file, as Keras writes them, which can not be run here. Ask its makers for a "
        "package of the BioImage Model Zoo with ONNX weights.",
    ),
    (b"\x1f\x8b", "is packed (gzip). Unpack it, and import what is in it."),
    (b"7z\xbc\xaf", "is packed (7z). Unpack it, and import what is in it."),
    (b"Rar!", "is packed (RAR). Unpack it, and import what is in it."),
    (b"\x80", _RENAME),
)
_MISSING = (
    "A package of the BioImage Model Zoo would hold rdf.yaml, a model that nnU-Net trained "
    "plans.json, dataset.json and fold_0."
)
_PAGE = re.compile(rb"\s*<[!?a-z]", re.IGNORECASE)
_FILES = (".safetensors", ".pt", ".pth", ".ckpt", ".zip")
_PICTURES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".nii", ".gz")
_SHOWN = 3


def what_it_is(source: Path) -> str:
    """Return what a file or folder is, after its name, and what to do.

    Parameters
    ----------
    source : Path
        Exists, and no importer recognises it.

    Returns
    -------
    str
        Begins with a verb; empty if it looks like nothing that is known.

    Raises
    ------
    ModelError
        For a zip that is not to be trusted, which says why.
    """
    if source.is_dir():
        return _folder(source)
    if not source.is_file():
        return "is neither a file nor a folder. Give the one or the other."
    try:
        with source.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        return f"can not be read: {error.strerror or error}. Check its permissions and the disk."
    if not head:
        return f"is empty (0 bytes). {_AGAIN}"
    if _PAGE.match(head):
        return (
            "is a web page, perhaps of a login or an error, saved under this name. Download the "
            "model itself."
        )
    if head.startswith(b"PK"):
        return _zip(source)
    for magic, words in _MAGIC:
        if head.startswith(magic):
            return words
    return _by_name(source)


def _by_name(source: Path) -> str:
    suffix = source.suffix.lower()
    if suffix == ".onnx":
        return (
            "is ONNX alone, which does not say how images are scaled or what comes out. Put it "
            "into a folder with a description of these (rdf.yaml, a package of the BioImage "
            "Model Zoo), and import the folder."
        )
    if suffix in (".yaml", ".yml"):
        return (
            "is no description of a model that is known by its name: a package of the BioImage "
            "Model Zoo has rdf.yaml or bioimageio.yaml."
        )
    if suffix in (".h5", ".hdf5", ".keras", ".pb", ".tflite", ".mlmodel"):
        return (
            "is of a library that can not be run here. Ask its makers for a package of the "
            "BioImage Model Zoo with ONNX weights."
        )
    return f"has the ending of a zip, but is none: it is damaged. {_AGAIN}" * (suffix == ".zip")


def _zip(source: Path) -> str:
    if not is_package(source):
        return f"is the beginning of a zip whose end is missing. {_AGAIN}"
    with open_package(source) as package:
        names = package.names()
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return _RENAME
    return f"is a zip without a model: {_described(names)}. {_MISSING}"


def _folder(source: Path) -> str:
    names = sorted(p.name for p in source.iterdir())
    models = [name for name in names if name.lower().endswith(_FILES)]
    if models:
        return (
            f"is a folder without a description of a model, but it holds {_listed(models)}. "
            "Import such a file."
        )
    if any(name.lower().endswith(_PICTURES) for name in names):
        return f"is a folder of images, not a model. {_SEGMENT}"
    return f"is a folder without a model: {_described(names)}. {_MISSING}"


def _described(names: list[str]) -> str:
    return f"it holds {_listed(names)}" if names else "it is empty"


def _listed(names: list[str]) -> str:
    shown = ", ".join(name[:60] for name in names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
