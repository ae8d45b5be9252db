"""Annotations on the disk: small, whole or not there, and free of code.

A NumPy archive (``.npz``) of positions and values, and a header in JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from unet_studio.errors import AnnotationError
from unet_studio.images.atomic import atomic_file
from unet_studio.models.archives import UNREADABLE_ZIP
from unet_studio.training.annotations import Annotations, Box, nothing_on

SUFFIX = ".strokes.npz"
_VERSION = 1


def save_annotations(annotations: Annotations, path: Path) -> None:
    """Write annotations; an old file is replaced only once the new one is on the disk.

    Raises
    ------
    OutputError
        If the folder or the disk does not take it.
    """
    header = {
        "version": _VERSION,
        "shape": annotations.shape,
        "axes": annotations.axes,
        "mode": annotations.mode,
        "complete": [[box.start, box.stop] for box in annotations.complete],
    }
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with atomic_file(path) as stream:
        np.savez_compressed(
            stream, header=text, places=annotations.places, values=annotations.values
        )


def load_annotations(path: Path) -> Annotations:
    """Read annotations.

    Raises
    ------
    AnnotationError
        If the file is missing, damaged, or of another kind.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            header = json.loads(bytes(archive["header"]))
            places, values = archive["places"], archive["values"]
        return _checked(header, places, values)
    except FileNotFoundError:
        raise AnnotationError(f"There are no annotations {path}. Check the name.") from None
    except (*UNREADABLE_ZIP, LookupError, TypeError, ArithmeticError, MemoryError) as error:
        raise AnnotationError(
            f"The annotations {path} can not be read: {error}. The file is damaged or of another "
            "kind; use an earlier copy."
        ) from error


def _checked(header: dict[str, Any], places: Any, values: Any) -> Annotations:
    shape = tuple(int(n) for n in header["shape"])
    if places.shape != (len(values), len(shape)) or (
        len(places) and not ((places >= 0) & (places < shape)).all()
    ):
        raise ValueError("positions and shape do not fit each other")
    boxes = [Box(tuple(map(int, a)), tuple(map(int, b))) for a, b in header["complete"]]
    empty = nothing_on(shape, header["axes"], mode=header["mode"], complete=boxes)
    return empty.with_pixels(places, values)
