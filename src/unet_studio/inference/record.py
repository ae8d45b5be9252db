"""The run record: what was run, on what, with what, stored with every result."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from unet_studio.inference.choice import reason
from unet_studio.versions import version_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unet_studio.images.normalisation import Scaling
    from unet_studio.images.volume import VolumeInfo
    from unet_studio.inference.plan import RunPlan
    from unet_studio.inference.trials import Numerics
    from unet_studio.models.model import Model
    from unet_studio.recipe import ObjectsMethod

_RECORDED_PACKAGES = ("napari-unet-studio", "torch", "numpy", "scipy", "scikit-image")
_OPTIONAL_PACKAGES = ("openvino", "nncf")


def installed_versions() -> dict[str, str]:
    """Return the versions of what decides a result."""
    versions = {"python": platform.python_version()}
    versions |= {name: version_of(name) or "not installed" for name in _RECORDED_PACKAGES}
    found = {name: version_of(name) for name in _OPTIONAL_PACKAGES}
    return versions | {name: version for name, version in found.items() if version}


def image_record(info: VolumeInfo) -> dict[str, Any]:
    """Return what the record says of the image."""
    return {
        "name": info.name,
        "shape": list(info.shape),
        "axes": info.axes.names,
        "dtype": str(info.dtype),
        "scale": list(info.axes.scale),
        "units": list(info.axes.units),
    }


class _Tracked(Protocol):
    """What became of objects that were linked through time."""

    def counts(self) -> Mapping[str, int]:
        """Return how many tracks, splits and so on."""


class Made(Protocol):
    """What the objects step says of its labels, wherever they lie."""

    @property
    def method(self) -> ObjectsMethod:
        """What was run, with every option written out."""

    @property
    def count(self) -> int:
        """Objects, or the highest class found."""

    @property
    def tracks(self) -> _Tracked | None:
        """None if nothing was linked."""


def with_objects(
    record: Mapping[str, Any],
    made: Made,
    *,
    measure: bool,
    warnings: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    """Return the record of a prediction with what was made of it.

    Parameters
    ----------
    record : mapping
        As of :func:`run_record`.
    made : Made
        Labels in memory or on the disk.
    measure : bool
        Whether the objects were to be measured.
    warnings : sequence of str
        All of the run, those of the prediction first.
    seconds : float
        Wall-clock time of the objects step.
    """
    method = made.method
    objects = {"method": method.method, "options": dict(method.options), "count": made.count}
    if made.tracks is not None:
        objects["tracks"] = dict(made.tracks.counts())
    # What would have to be run to get these labels again.
    again = {"objects": method.model_dump(mode="json"), "measure": measure}
    return {
        **record,
        "objects": objects,
        "warnings": list(warnings),
        "recipe": {**record.get("recipe", {}), **again},
        "seconds": {**record.get("seconds", {}), "objects": round(seconds, 3)},
    }


def run_record(
    plan: RunPlan,
    model: Model,
    scaling: Scaling,
    devices: Sequence[str],
    numerics: Numerics,
    trials: Mapping[str, Any],
    seconds: float,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Return the record of a prediction, ready for JSON.

    Parameters
    ----------
    plan : RunPlan
    model : Model
    scaling : Scaling
        As measured on the image.
    devices : sequence of str
        Where it really ran.
    numerics : Numerics
        What the network really ran in.
    trials : mapping
        What was measured to choose that: speed and error of each way, by its name.
    seconds : float
        Wall-clock time of the prediction.
    warnings : sequence of str
    """
    info = plan.info
    return {
        "recipe": plan.recipe.model_dump(mode="json"),
        "model": {
            "name": model.card.name,
            "sha256": model.sha256,
            "licence": model.card.licence,
            "citation": model.card.citation,
        },
        "image": image_record(info),
        "channels": list(plan.channels),
        "scaling": {"offset": list(scaling.offset), "gain": list(scaling.gain)},
        "tiles": {
            "count": plan.tile_count,
            "shape": list(plan.tile_shape),
            "halo": plan.halo,
            "blended": plan.tiles.averages,
            "exact": plan.exact,
            "expected_flips": plan.expected_flips,
        },
        "planes": {
            "names": ["XY", *(view.name for view in plan.views)] if plan.card.ndim == 2 else [],
            "resampled_depth": [view.depth for view in plan.views],
        },
        "device": ", ".join(devices),
        "backend": numerics.backend,
        "precision": numerics.precision,
        "numerics": {"why": reason(numerics, plan.recipe, trials), "trials": dict(trials)},
        "seconds": {"predict": round(seconds, 3)},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": installed_versions(),
        "warnings": list(warnings),
    }
