"""U-Net Studio: segment, click, refine and batch with one trainable U-Net.

The public names are loaded on first use, so that importing the package is
fast and brings in neither torch nor Qt.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_studio.batch.recipe_file import load_recipe, save_recipe
    from unet_studio.batch.run import BatchReport, run_batch
    from unet_studio.clicks.journal import replay
    from unet_studio.clicks.session import ClickSession
    from unet_studio.images.readers import read_image
    from unet_studio.images.stacking import stack_channels
    from unet_studio.images.volume import Volume, as_volume
    from unet_studio.inference.prediction import Prediction
    from unet_studio.models.model import Model, load_model, save_model
    from unet_studio.models.store import list_models
    from unet_studio.pipeline import Segmentation, predict, segment
    from unet_studio.recipe import Recipe
    from unet_studio.streaming import segment_to_zarr
    from unet_studio.streaming_results import StreamedSegmentation
    from unet_studio.training.annotations import Annotations, annotate
    from unet_studio.training.refine import Refined, refine

__version__ = "0.1.0"

_HOME = {
    "Annotations": "unet_studio.training.annotations",
    "ClickSession": "unet_studio.clicks.session",
    "BatchReport": "unet_studio.batch.run",
    "Model": "unet_studio.models.model",
    "Prediction": "unet_studio.inference.prediction",
    "Recipe": "unet_studio.recipe",
    "Refined": "unet_studio.training.refine",
    "Segmentation": "unet_studio.pipeline",
    "StreamedSegmentation": "unet_studio.streaming_results",
    "Volume": "unet_studio.images.volume",
    "annotate": "unet_studio.training.annotations",
    "as_volume": "unet_studio.images.volume",
    "list_models": "unet_studio.models.store",
    "load_model": "unet_studio.models.model",
    "load_recipe": "unet_studio.batch.recipe_file",
    "predict": "unet_studio.pipeline",
    "read_image": "unet_studio.images.readers",
    "refine": "unet_studio.training.refine",
    "replay": "unet_studio.clicks.journal",
    "run_batch": "unet_studio.batch.run",
    "save_model": "unet_studio.models.model",
    "save_recipe": "unet_studio.batch.recipe_file",
    "segment": "unet_studio.pipeline",
    "segment_to_zarr": "unet_studio.streaming",
    "stack_channels": "unet_studio.images.stacking",
}

__all__ = [
    "Annotations",
    "BatchReport",
    "ClickSession",
    "Model",
    "Prediction",
    "Recipe",
    "Refined",
    "Segmentation",
    "StreamedSegmentation",
    "Volume",
    "__version__",
    "annotate",
    "as_volume",
    "list_models",
    "load_model",
    "load_recipe",
    "predict",
    "read_image",
    "refine",
    "replay",
    "run_batch",
    "save_model",
    "save_recipe",
    "segment",
    "segment_to_zarr",
    "stack_channels",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
