"""What runs a network, and in which numbers: whatever measures fastest and says the same.

That depends on the processor and the network, so it is measured on a tile, once
per device and kind of network, and remembered. Torch is imported only to
measure: a plan asks what is remembered before. Integers of 8 bits are never chosen: a recipe
asks for them, and then gets them or is refused, so that it means the same everywhere.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.errors import BackendError
from unet_studio.inference.cache import JsonCache, cache_folder
from unet_studio.inference.devices import first_of, kind_of, likely_device, loaded_torch
from unet_studio.inference.eight_bits import has_quantiser
from unet_studio.inference.trials import METHOD, REFERENCE, Numerics, Trial, try_out
from unet_studio.models.networks import EMBEDDED
from unet_studio.versions import version_of

if TYPE_CHECKING:
    import torch

    from unet_studio.models.card import ModelCard
    from unet_studio.models.model import Model
    from unet_studio.recipe import Recipe

# Less is not worth the digits, and could come out differently another time.
SPEED_UP = 1.2
# The same for another back end in the same precision, which costs no digits.
SPEED_UP_BACKEND = 1.1
# Mean of the logits' change, relative to their deviation. float32 through other kernels
# rounds differently, about 2e-6; bfloat16 has 8 bits, and gives about 6e-3.
# int8 gives 1e-2 to 4e-2 there; of two bundled models' decisions on images, 0.2 and 0.4 % change.
LARGEST_ERROR = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 2e-2, "int8": 0.1}
INT8 = Numerics("openvino", "int8")
_INSTALL = 'pip install "napari-unet-studio[cpu]"'
_INSTALL_INT8 = 'pip install "napari-unet-studio[int8]"'


def choose(
    model: Model,
    device: torch.device,
    recipe: Recipe,
    pixels: int,
    check: Callable[[], None] = lambda: None,
) -> Numerics:
    """Return how to run a model.

    Parameters
    ----------
    model : Model
    device : torch.device
    recipe : Recipe
        ``backend`` and ``precision`` count. Where either is "auto" and leaves a choice,
        it is measured (a fraction of a second to a few seconds), unless that was done
        before with the same versions.
    pixels : int
        That the network will go through: a faster back end that takes long to start is
        no gain for a small image.
    check : callable
        Called between the runs of a trial; what it raises ends it.

    Raises
    ------
    BackendError
        If the recipe asks for a back end or for integers that can not run this model, or
        if integers change it too much.
    """
    if model.card.architecture in EMBEDDED:
        return _as_it_is(model.card, recipe)
    ways = candidates(device.type, recipe)
    if ways == [INT8]:
        return _integers(model, device, recipe, check)
    if len(ways) == 1:
        return ways[0]
    trials = remembered(model.card, str(device))
    if not trials:
        try:
            trials = try_out(model, device, candidates(device.type), check)
        except (RuntimeError, MemoryError):
            # No memory for the trial, or no such operation in that precision: the run itself
            # says what is wrong, if anything is. Tried again another time.
            return ways[0]
        _remember(_key(model.card, str(device)), trials)
    return decide(trials, ways, pixels)


def _remember(key: str, trials: Mapping[str, Trial]) -> None:
    _cache().set(key, {name: asdict(trial) for name, trial in trials.items()})


def _integers(
    model: Model, device: torch.device, recipe: Recipe, check: Callable[[], None]
) -> Numerics:
    """Return integers of 8 bits, once it is known that they change the logits little."""
    from unet_studio.inference.openvino import converted

    trials = trials_of(model, str(device), recipe)
    if str(INT8) not in trials:
        converted(model, INT8.precision, check)  # raises where a trial would leave them out
        try:
            trials = try_out(model, device, [*candidates(device.type), INT8], check)
        except (RuntimeError, MemoryError):
            return INT8  # the run itself says what is wrong; tried again another time
        if str(INT8) in trials:
            _remember(_key(model.card, str(device), _weights(model, recipe)), trials)
    found, limit = trials.get(str(INT8)), LARGEST_ERROR["int8"]
    if found is not None and not found.error <= limit:  # NaN, too
        raise BackendError(
            f"8-bit integers (int8) change the logits of the model {model.card.name!r} by "
            f"{found.error:.2g} of their deviation, more than {limit:g}. Leave the precision to "
            "auto."
        )
    return INT8


def likely(card: ModelCard, device: str, recipe: Recipe, pixels: int) -> Numerics:
    """Return what :func:`choose` will probably say, without measuring anything."""
    if card.architecture in EMBEDDED:
        return _as_it_is(card, recipe)
    ways = candidates(kind_of(device), recipe)
    return decide(remembered(card, first_of(device)), ways, pixels)


def _as_it_is(card: ModelCard, recipe: Recipe) -> Numerics:
    """Return how a program runs that came with its model: as it was made."""
    if only_on_cpu(recipe):
        raise BackendError(
            f"The model {card.name!r} is a program ({card.architecture}) that brings its own way "
            "to be run. Leave back end and precision to auto."
        )
    return REFERENCE


def decide(trials: Mapping[str, Trial], ways: list[Numerics], pixels: int) -> Numerics:
    """Return the fastest of several ways whose error is within its tolerance.

    Parameters
    ----------
    trials : mapping of str to Trial
        By the name of the way.
    ways : list of Numerics
        The closest to float32 in torch first. A later one has to be faster than the best
        before it by :data:`SPEED_UP`, or :data:`SPEED_UP_BACKEND` in the same precision.
    pixels : int
    """
    best = ways[0]
    for way in ways[1:]:
        trial, rival = trials.get(str(way)), trials.get(str(best))
        if trial is None or rival is None:
            continue
        # False for NaN, too.
        if not trial.error <= LARGEST_ERROR[way.precision]:
            continue
        cost, before = (t.startup + t.seconds * pixels for t in (trial, rival))
        same = way.precision == best.precision
        if before >= (SPEED_UP_BACKEND if same else SPEED_UP) * cost:
            best = way
    return best


def candidates(kind: str, recipe: Recipe | None = None) -> list[Numerics]:
    """Return the ways to run a network on a kind of device that a recipe leaves.

    Parameters
    ----------
    kind : {"cpu", "cuda", "mps"}
    recipe : Recipe, optional
        All ways if not given.

    Raises
    ------
    BackendError
        If the recipe asks for what is not installed or not possible.
    """
    backend = "auto" if recipe is None else recipe.backend
    precision = "auto" if recipe is None else recipe.precision
    check_backend(backend, kind)
    if precision == "int8":
        check_int8(backend, kind)
        return [INT8]
    if backend == "auto":
        backends = ["torch", "openvino"] if kind == "cpu" and has_openvino() else ["torch"]
    else:
        backends = [backend]
    precisions = [precision] if precision != "auto" else ["float32", *_half_wide(kind)]
    return [Numerics(b, p) for p in precisions for b in backends]


def planned_device(recipe: Recipe) -> str:
    """Return where a recipe will probably run; OpenVINO leaves only one choice.

    Raises
    ------
    RecipeError
        If the device does not exist, or the back end can not run there.
    """
    chosen = recipe.device
    device = "cpu" if only_on_cpu(recipe) and chosen == "auto" else likely_device(chosen)
    check_backend(recipe.backend, kind_of(device))
    if recipe.precision == "int8":
        check_int8(recipe.backend, kind_of(device))
    return device


def only_on_cpu(recipe: Recipe) -> bool:
    """Whether a recipe asks for what no GPU does."""
    return recipe.backend == "openvino" or recipe.precision == "int8"


def check_backend(backend: str, kind: str) -> None:
    """Refuse a back end that can not run on a kind of device.

    Raises
    ------
    BackendError
    """
    if backend != "openvino":
        return
    if kind != "cpu":
        raise BackendError(
            f"The back end OpenVINO runs on the CPU only, but the device is {kind}. Choose the "
            "device cpu or auto, or the back end torch."
        )
    if not has_openvino():
        raise BackendError(
            f"The back end OpenVINO is not installed. Install it with {_INSTALL}, or leave the "
            "choice of the back end to auto."
        )


def check_int8(backend: str, kind: str) -> None:
    """Refuse integers of 8 bits on a kind of device or in a back end that lacks them.

    Raises
    ------
    BackendError
    """
    if kind != "cpu" or backend == "torch":
        asked = f"the back end is {backend}" if kind == "cpu" else f"the device is {kind}"
        raise BackendError(
            f"8-bit integers (int8) run with OpenVINO on the CPU only, but {asked}. Leave back "
            "end and device to auto, or the precision."
        )
    if not (has_openvino() and has_quantiser()):
        raise BackendError(
            "For 8-bit integers (int8) OpenVINO and NNCF are needed. Install them with "
            f"{_INSTALL_INT8}, or leave the precision to auto."
        )


def has_openvino() -> bool:
    """Whether OpenVINO can be imported; it is not imported."""
    return find_spec("openvino") is not None


def trials_of(model: Model, device: str, recipe: Recipe) -> dict[str, Trial]:
    """Return what was measured before, as far as a recipe is concerned.

    Parameters
    ----------
    model : Model
    device : str
    recipe : Recipe
        That of integers is included only where it asks for them.
    """
    return remembered(model.card, device, _weights(model, recipe))


def _weights(model: Model, recipe: Recipe) -> str:
    """Return what integers depend on besides the network's shape, if they are asked for."""
    if recipe.precision != "int8" or model.card.architecture in EMBEDDED:
        return ""
    from unet_studio.inference.fingerprint import digest_of

    return f"{INT8} of {digest_of(model)}, nncf {version_of('nncf')}"


def remembered(card: ModelCard, device: str, weights: str = "") -> dict[str, Trial]:
    """Return what was measured before, by the name of the way; empty if nothing was."""
    content = _cache().get(_key(card, device, weights))
    try:
        return {name: Trial(**values) for name, values in content.items()}
    except (AttributeError, TypeError):
        return {}


def _half_wide(kind: str) -> list[str]:
    torch = loaded_torch()
    if kind == "cuda":
        supported = torch is None or torch.cuda.is_bf16_supported()
        # float16 has more digits but overflows sooner, so it has to be clearly faster.
        return ["bfloat16", "float16"] if supported else ["float16"]
    return ["bfloat16"] if kind == "cpu" else []


def _key(card: ModelCard, device: str, weights: str = "") -> str:
    # Speed is a matter of the network's shape, not of its weights.
    shape = card.model_dump_json(
        include={"architecture", "options", "in_channels", "ndim", "representation"}
    )
    digest = hashlib.sha256(shape.encode()).hexdigest()[:16]
    key = f"{card.architecture} {digest} | {_device_name(device)} | torch {version_of('torch')}"
    key += f" | trial {METHOD}"
    if device == "cpu" and has_openvino():
        key += f", openvino {version_of('openvino')}"
    return f"{key} | {weights}" if weights else key


def _device_name(device: str) -> str:
    torch = loaded_torch()
    if device.startswith("cuda"):
        if torch is None or not torch.cuda.is_available():
            return device
        return str(torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line for line in lines if line.startswith("model name")).partition(":")[2]
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name.strip()} x{os.cpu_count()}"


def _cache() -> JsonCache:
    return JsonCache(cache_folder() / "numerics.json")


def as_record(trials: Mapping[str, Trial]) -> dict[str, Any]:
    """Return trials ready for the run record: speed against the first, and error."""
    reference = trials.get(str(REFERENCE))
    if reference is None:
        return {}
    return {
        name: {
            "speed": round(reference.seconds / trial.seconds, 2),
            "error": float(f"{trial.error:.2g}"),
        }
        for name, trial in trials.items()
    }


def reason(numerics: Numerics, recipe: Recipe, trials: Mapping[str, Any]) -> str:
    """Return in words why a network ran as it did.

    Parameters
    ----------
    numerics : Numerics
        What it ran in.
    recipe : Recipe
    trials : mapping
        As :func:`as_record` returns them.
    """
    if recipe.precision == "int8" or "auto" not in (recipe.backend, recipe.precision):
        return "asked for"
    own = trials.get(str(numerics))
    if own is None:
        return "not measured: nothing was left to choose, or the trial failed"
    if numerics == REFERENCE:
        return "no other way was clearly faster with the same result"
    return (
        f"{own['speed']:g} times as fast as {REFERENCE} on a trial tile, its logits changed by "
        f"{own['error']:.1g} of their deviation"
    )


def slow_integers(recipe: Recipe, trials: Mapping[str, Any]) -> str | None:
    """Return a warning if integers of 8 bits are asked for, but something else is faster.

    Parameters
    ----------
    recipe : Recipe
    trials : mapping
        As :func:`as_record` returns them.
    """
    own = trials.get(str(INT8))
    if recipe.precision != "int8" or own is None:
        return None
    best = max(trials, key=lambda name: trials[name]["speed"])
    if best == str(INT8):
        return None
    times = trials[best]["speed"] / own["speed"]
    return (
        f"8-bit integers (int8) are not the fastest here: {best} is {times:.2g} times as fast. "
        "Leave the precision to auto on this computer."
    )
