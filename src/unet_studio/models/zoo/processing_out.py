"""Our normalisations and outputs in the words of format 0.5."""

from __future__ import annotations

from typing import Any

import numpy as np

from unet_studio.errors import ModelError
from unet_studio.models.card import ModelCard
from unet_studio.models.zoo.prepared import stated_normalisation
from unet_studio.models.zoo.program_out import letters_of

# The format wants more than nothing; this changes no digit of a float32.
_LEAST_EPS = 1e-12
_DEFAULT_CLIP = (-0.5, 2.0)


def preprocessing_of(card: ModelCard) -> list[dict[str, Any]]:
    """Return a card's normalisation as steps of pre-processing.

    Raises
    ------
    ModelError
        If the format has no words for it.
    """
    normalisation = stated_normalisation(card)
    method, options = normalisation.method, dict(normalisation.options)
    steps = options["steps"] if method == "steps" else [{"method": method, **options}]
    written = [step for given in steps for step in _written(dict(given), card)]
    return [
        _step("ensure_dtype", dtype="float32"),
        *written,
        _step("ensure_dtype", dtype="float32"),
    ]


def postprocessing_of(card: ModelCard) -> list[dict[str, Any]]:
    """Return what turns a network's output into probabilities."""
    if card.output == "probabilities":
        return []
    if card.representation == "classes":
        return [_step("softmax", axis="channel")]
    return [{"id": "sigmoid"}]


def _written(step: dict[str, Any], card: ModelCard) -> list[dict[str, Any]]:
    method = str(step.pop("method"))
    if method == "percentile":
        clip = step.get("clip", _DEFAULT_CLIP if card.normalisation.method == method else None)
        scaled = _step(
            "scale_range",
            axes=_axes(card, bool(step.get("joint", False))),
            min_percentile=float(step.get("low", 0.5)),
            max_percentile=float(step.get("high", 99.9)),
            eps=float(step.get("eps", 0.0)) or _LEAST_EPS,
        )
        clipped = [_step("clip", min=float(clip[0]), max=float(clip[1]))] if clip else []
        return [scaled, *clipped]
    if method == "pretrained":
        return _pretrained(step, card)
    if method == "zscore":
        axes = _axes(card, bool(step.get("joint", False)))
        eps = float(step.get("eps", 0.0)) or _LEAST_EPS
        return [_step("zero_mean_unit_variance", axes=axes, eps=eps)]
    if method == "fixed":
        return _fixed(step, card)
    if method == "linear":
        kwargs = {"gain": step.get("gain", 1.0), "offset": step.get("offset", 0.0)}
        along = {"axis": "channel"} if any(isinstance(v, list) for v in kwargs.values()) else {}
        return [_step("scale_linear", **kwargs, **along)]
    if method == "clip":
        bounds = {"min": step.get("low"), "max": step.get("high")}
        return [_step("clip", **{k: float(v) for k, v in bounds.items() if v is not None})]
    if method == "binarize":
        return [_step("binarize", threshold=float(step["threshold"]))]
    if method == "sigmoid":
        return [{"id": "sigmoid"}]
    raise ModelError(
        f"{card.name!r} is normalised by {method!r}; a package of the BioImage Model Zoo can not "
        "say that. Export the bare network instead, as onnx or torchscript."
    )


def _fixed(step: dict[str, Any], card: ModelCard) -> list[dict[str, Any]]:
    values = [step.get("mean", (0.0,)), step.get("std", (1.0,))]
    lists = [list(v) if isinstance(v, list | tuple) else [v] for v in values]
    if lists == [[0.0], [1.0]]:
        return []
    if all(len(v) == 1 for v in lists):
        kwargs: dict[str, Any] = {"mean": float(lists[0][0]), "std": float(lists[1][0])}
        return [_step("fixed_zero_mean_unit_variance", **kwargs)]
    mean, std = ([float(x) for x in (v * card.in_channels if len(v) == 1 else v)] for v in lists)
    return [_step("fixed_zero_mean_unit_variance", mean=mean, std=std, axis="channel")]


def _pretrained(step: dict[str, Any], card: ModelCard) -> list[dict[str, Any]]:
    """Write :func:`unet_studio.images.normalisation.pretrained_scaling`."""
    mean, std = (
        [float(v) for v in np.atleast_1d(step.get(key, default))]
        for key, default in (("mean", 0.449), ("std", 0.226))
    )
    if (span := step.get("span")) is not None:
        low, width = float(span[0]), float(span[1]) - float(span[0])
        values = {"mean": [low + m * width for m in mean], "std": [s * width for s in std]}
        return _fixed(values, card)
    # The same limits for all channels, and after the division, as they are applied here.
    pairs = [(float(m), float(s)) for m, s in np.broadcast(mean, std)]
    limits = [[(bound - m) / s for m, s in pairs] for bound in _DEFAULT_CLIP]
    ranged = {"method": "percentile", "joint": step.get("joint", False), "clip": None}
    return [
        *_written(ranged, card),
        *_fixed({"mean": mean, "std": std}, card),
        _step("clip", min=min(limits[0]), max=max(limits[1])),
    ]


def _axes(card: ModelCard, joint: bool) -> list[str]:
    has_channels = "c" in letters_of(card)[0]
    return [*(["channel"] if joint and has_channels else []), *"zyx"[-card.ndim :]]


def _step(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"id": name, "kwargs": kwargs}
