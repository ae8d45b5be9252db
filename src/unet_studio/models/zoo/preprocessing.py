"""A package's pre-processing as a normalisation of ours: the same numbers, or a refusal.

Formulas are those of the format's own documentation (``bioimageio.spec``, module
``model.v0_5``): ``(x - mean) / (std + eps)`` and
``(x - lower) / (upper - lower + eps)``.
"""

from __future__ import annotations

from typing import Any, Literal

from unet_studio.errors import ModelError, RecipeError
from unet_studio.images.normalisers import check_normalisation
from unet_studio.models.zoo.advice import ANOTHER, MENDED
from unet_studio.models.zoo.tensors import LETTERS, Process, Tensor
from unet_studio.recipe import Normalisation

Format = Literal["0.4", "0.5"]
_EPS = 1e-6
_LONGEST = 200
_PER_DATASET = (
    "The package wants intensities measured on a whole data set; they are measured on each image "
    "by itself."
)


def map_preprocessing(tensor: Tensor, version: Format) -> tuple[Normalisation, tuple[str, ...]]:
    """Return the normalisation that a package asks for, and what is to be told of it.

    Parameters
    ----------
    tensor : Tensor
        The input.
    version : {"0.4", "0.5"}
        Of the format: they differ in their keywords.

    Raises
    ------
    ModelError
        If a step can not be done exactly.
    """
    steps: list[dict[str, Any]] = []
    notes: list[str] = []
    for process in tensor.processes:
        try:
            step, told = _mapped(process, tensor, version, first=not steps)
        except (TypeError, ValueError, OverflowError):  # words where numbers should be
            raise _refusal(process.what, f"with {_short(process.kwargs)}") from None
        steps += [step] if step else []
        notes += [note for note in told if note not in notes]
    normalisation = _shortest(steps)
    try:
        check_normalisation(normalisation)
    except RecipeError as error:
        raise ModelError(
            f"The package's pre-processing can not be done: {error} {MENDED}"
        ) from None
    return normalisation, tuple(notes)


def _mapped(
    process: Process, tensor: Tensor, version: Format, *, first: bool
) -> tuple[dict[str, Any] | None, list[str]]:
    kwargs, what = dict(process.kwargs), process.what
    if what == "ensure_dtype":
        if str(kwargs.get("dtype")) not in ("float32", "float64"):
            raise _refusal(what, f"to {kwargs.get('dtype')}")
        return None, []
    if what == "sigmoid":
        return {"method": "sigmoid"}, []
    if what == "binarize":
        return {"method": "binarize", "threshold": _number(kwargs, "threshold", what)}, []
    if what == "clip":
        if {"min_percentile", "max_percentile"} & {k for k, v in kwargs.items() if v is not None}:
            raise _refusal(what, "to percentiles")
        bounds = {"low": kwargs.get("min"), "high": kwargs.get("max")}
        return {"method": "clip", **{k: v for k, v in bounds.items() if v is not None}}, []
    if what == "scale_linear":
        _check_channel_axis(kwargs, tensor, version, what)
        values = {
            key: kwargs.get(key, default) for key, default in (("gain", 1.0), ("offset", 0.0))
        }
        return {"method": "linear", **values}, []
    fixed = what == "zero_mean_unit_variance" and version == "0.4"
    if what == "fixed_zero_mean_unit_variance" or (
        fixed and kwargs.get("mode", "fixed") == "fixed"
    ):
        _check_channel_axis(kwargs, tensor, version, what)
        eps = float(kwargs.get("eps", _EPS)) if fixed else 0.0
        return _fixed(kwargs, eps, what), []
    if what in ("zero_mean_unit_variance", "scale_range"):
        return _measured(what, kwargs, tensor, version, first=first)
    raise _refusal(what)


def _fixed(kwargs: dict[str, Any], eps: float, what: str) -> dict[str, Any]:
    mean, std = kwargs.get("mean"), kwargs.get("std")
    if mean is None or std is None:
        raise _refusal(what, "without a mean and a deviation")
    stds = [float(v) + eps for v in std] if isinstance(std, list) else [float(std) + eps]
    means = [float(v) for v in mean] if isinstance(mean, list) else [float(mean)]
    return {"method": "fixed", "mean": means, "std": stds}


def _measured(
    what: str, kwargs: dict[str, Any], tensor: Tensor, version: Format, *, first: bool
) -> tuple[dict[str, Any], list[str]]:
    joint, per_dataset = _jointly(kwargs, tensor, version, what)
    reference = kwargs.get("reference_tensor")
    # The statistics of the unprocessed image: the same, if nothing has changed it yet.
    if reference not in (None, tensor.id) or (reference is not None and not first):
        raise _refusal(what, f"by the tensor {reference!r}")
    options: dict[str, Any] = {"joint": joint, "eps": float(kwargs.get("eps", _EPS))}
    if what == "scale_range":
        options["low"] = float(kwargs.get("min_percentile", 0.0))
        options["high"] = float(kwargs.get("max_percentile", 100.0))
    method = "percentile" if what == "scale_range" else "zscore"
    return {"method": method, **options}, [_PER_DATASET] if per_dataset else []


def _jointly(
    kwargs: dict[str, Any], tensor: Tensor, version: Format, what: str
) -> tuple[bool, bool]:
    """Whether channels are measured together, and whether over more than one image."""
    axes = kwargs.get("axes")
    if axes is None:
        letters = set(tensor.letters)
        per_dataset = kwargs.get("mode") == "per_dataset"
    else:
        names = list(axes) if isinstance(axes, str) and version == "0.4" else axes
        if not isinstance(names, list | tuple):
            raise _refusal(what, f"over the axes {axes!r}")
        letters = {LETTERS.get(str(name), str(name)) for name in names}
        per_dataset = kwargs.get("mode") == "per_dataset" or "b" in letters
    spatial = {axis.letter for axis in tensor.spatial if axis.size != 1}
    if letters - set("bczyx") or spatial - letters:
        # Statistics per line or per plane of a stack: ours are those of the whole.
        raise _refusal(what, f"over the axes {axes!r} alone")
    return "c" in letters and tensor.channels > 1, per_dataset


def _check_channel_axis(
    kwargs: dict[str, Any], tensor: Tensor, version: Format, what: str
) -> None:
    """Refuse values along an axis other than the channels."""
    lists = [v for v in kwargs.values() if isinstance(v, list) and len(v) > 1]
    lists = [v for v in lists if not isinstance(v[0], str)]
    if not lists:
        return
    axis = kwargs.get("axis")
    if version == "0.4":
        left = [a.letter for a in tensor.axes if a.letter not in (kwargs.get("axes") or "") + "b"]
        axis = "channel" if left == ["c"] else "".join(left)
    if axis != "channel" or any(len(v) != tensor.channels for v in lists):
        raise _refusal(what, f"with {len(lists[0])} values along {axis!r}")


def _shortest(steps: list[dict[str, Any]]) -> Normalisation:
    """Write steps as one of the plain methods where they are one."""
    if not steps:
        return Normalisation(method="fixed")
    first = {key: value for key, value in steps[0].items() if key != "method"}
    method = str(steps[0]["method"])
    if len(steps) == 1 and method in ("percentile", "zscore", "fixed"):
        clip = {"clip": None} if method == "percentile" else {}
        return Normalisation(method=method, options={**first, **clip})
    if len(steps) == 2 and method == "percentile" and steps[1]["method"] == "clip":
        low, high = steps[1].get("low"), steps[1].get("high")
        if low is not None and high is not None and low < high:
            options = {**first, "clip": [float(low), float(high)]}
            return Normalisation(method=method, options=options)
    return Normalisation(method="steps", options={"steps": steps})


def _number(kwargs: dict[str, Any], key: str, what: str) -> float:
    value = kwargs.get(key)
    if not isinstance(value, int | float | str):
        raise _refusal(what, f"with {key} {value!r}")
    return float(value)


def _short(values: dict[str, Any]) -> str:
    said = str(values)
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"


def _refusal(what: str, how: str = "") -> ModelError:
    return ModelError(
        f"The package's pre-processing step {what!r}{' ' + how if how else ''} can not be done "
        f"exactly here, so the model was not imported. {ANOTHER}"
    )
