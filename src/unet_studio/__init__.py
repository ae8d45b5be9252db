"""U-Net Studio: segment, click, refine and batch with one trainable U-Net.

The public names are loaded on first use, so that importing the package is
fast and brings in neither torch nor Qt.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_studio.images.readers import read_image
    from unet_studio.images.volume import Volume, as_volume
    from unet_studio.inference.prediction import Prediction
    from unet_studio.models.model import Model, load_model
    from unet_studio.models.store import list_models
    from unet_studio.pipeline import Segmentation, predict, segment
    from unet_studio.recipe import Recipe
    from unet_studio.streaming import StreamedSegmentation, segment_to_zarr

__version__ = "0.1.0"

_HOME = {
    "Model": "unet_studio.models.model",
    "Prediction": "unet_studio.inference.prediction",
    "Recipe": "unet_studio.recipe",
    "Segmentation": "unet_studio.pipeline",
    "StreamedSegmentation": "unet_studio.streaming",
    "Volume": "unet_studio.images.volume",
    "as_volume": "unet_studio.images.volume",
    "list_models": "unet_studio.models.store",
    "load_model": "unet_studio.models.model",
    "predict": "unet_studio.pipeline",
    "read_image": "unet_studio.images.readers",
    "segment": "unet_studio.pipeline",
    "segment_to_zarr": "unet_studio.streaming",
}

__all__ = [
    "Model",
    "Prediction",
    "Recipe",
    "Segmentation",
    "StreamedSegmentation",
    "Volume",
    "__version__",
    "as_volume",
    "list_models",
    "load_model",
    "predict",
    "read_image",
    "segment",
    "segment_to_zarr",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
