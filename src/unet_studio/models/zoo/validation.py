"""Check a package by the format's own library, without a network."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_studio.errors import ModelError
from unet_studio.models.networks.onnx import INSTALL
from unet_studio.models.zoo.yaml import read_yaml, write_yaml

# The library lists all that it would have taken, such as six hundred licences.
_LONGEST = 200


def validate_package(files: Mapping[str, bytes]) -> None:
    """Refuse a package that ``bioimageio.spec`` finds invalid.

    Parameters
    ----------
    files : mapping of str to bytes
        All files of it by name, ``rdf.yaml`` among them.

    Raises
    ------
    ModelError
        Naming what is wrong, or that the library is not installed.
    """
    try:
        from bioimageio.spec import ValidationContext, load_description
        from loguru import logger
    except ImportError:
        raise ModelError(f"Packages are checked by bioimageio.spec. {INSTALL}") from None
    logger.disable("bioimageio")  # it tells of every file on the terminal
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="unet-studio-") as folder:
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves closing files to Python
        path = Path(folder) / "rdf.yaml"
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        with ValidationContext(perform_io_checks=False):
            _refuse(load_description(path))
        # Files, hashes and shapes of the tensors, too. That check would ask GitHub for the
        # maintainer, and nothing here asks the network unasked.
        path.write_bytes(_without_maintainers(files["rdf.yaml"]))
        with ValidationContext(perform_io_checks=True):
            _refuse(load_description(path))


def spdx_licence(words: str) -> str | None:
    """Return the SPDX identifier that a licence is written as, or None if it is none.

    Raises
    ------
    ModelError
        If ``bioimageio.spec`` is not installed.
    """
    try:
        from bioimageio.spec.model.v0_5 import LicenseId
    except ImportError:
        raise ModelError(f"Packages are checked by bioimageio.spec. {INSTALL}") from None
    known = LicenseId.root_model.model_json_schema()["enum"]
    return {str(name).lower(): str(name) for name in known}.get(words.strip().lower())


def _without_maintainers(description: bytes) -> bytes:
    values = read_yaml(description, "rdf.yaml")
    return write_yaml({k: v for k, v in values.items() if k != "maintainers"})


def _refuse(described: Any) -> None:
    summary = described.validation_summary
    problems = [
        f"{'.'.join(map(str, error.loc))}: {error.msg[:_LONGEST]}"
        for detail in summary.details
        for error in detail.errors
    ]
    if problems or summary.status == "failed":
        raise ModelError(
            "The package would not be valid: "
            + "; ".join(problems[:5] or ["unknown reason"])
            + ". Correct what is said of the model, or export the model file (--to file)."
        )
