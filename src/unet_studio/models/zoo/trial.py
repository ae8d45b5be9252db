"""Run a package's own test image, and compare with what its makers got."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unet_studio.errors import ModelError
from unet_studio.images.normalisation import sample_for_statistics
from unet_studio.images.normalisers import NORMALISERS
from unet_studio.models.zoo.advice import MENDED
from unet_studio.models.zoo.description import Description
from unet_studio.models.zoo.postprocessing import Output
from unet_studio.models.zoo.prepared import stated_normalisation
from unet_studio.models.zoo.weights import Loaded

# The tolerances that the format itself takes where a package does not say.
ABSOLUTE, RELATIVE = 1e-3, 1e-3
_DOUBT = "Do not trust this model before you have found out why."


@dataclass(frozen=True)
class Chosen:
    """The weights of a package that are taken, and how they did on its test image.

    Attributes
    ----------
    loaded : Loaded
    record : dict
        For the card; empty without a test image.
    notes : tuple of str
        For the user, once.
    lasting : tuple of str
        For everybody who looks at the model later.
    """

    loaded: Loaded
    record: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()


def choose_weights(
    candidates: Iterator[Loaded],
    description: Description,
    output: Output,
    images: tuple[NDArray[Any], NDArray[Any]] | None,
) -> Chosen:
    """Take the first weights that reproduce the package's test output.

    A state dict whose layout is known here can belong to a network that computes
    something else. Its ONNX then tells, and is taken if it does better.

    Parameters
    ----------
    candidates : iterator of Loaded
        The preferred first.
    description : Description
    output : Output
    images : tuple of array or None
        The package's test image and output. Without them the first is taken.

    Raises
    ------
    ModelError
        What is wrong with the first, if none can be compared.
    """
    failed: list[tuple[Loaded, dict[str, Any], str]] = []
    problem: ModelError | None = None
    while True:
        try:
            loaded = next(candidates, None)
            if loaded is None:
                break
            if images is None:
                return Chosen(loaded)
            record, note = run_trial(loaded, description, output, *images)
        except ModelError as error:
            problem = problem or error
            continue  # a generator that raised is at its end
        if record["passed"]:
            earlier = [f"{one.format} was passed over: {why}" for one, _, why in failed]
            return Chosen(loaded, {"test": record}, (*_told(problem), *earlier, note))
        failed.append((loaded, record, f"{note[:1].lower()}{note[1:]}"))
    if not failed:
        assert problem is not None
        raise problem
    loaded, record, note = failed[0]
    warning = f"Warning: {note} {_DOUBT}"
    return Chosen(loaded, {"test": record}, (*_told(problem), warning), (warning,))


def _told(problem: ModelError | None) -> tuple[str, ...]:
    return () if problem is None else (f"Other weights can not be used: {problem}",)


def arranged(array: NDArray[Any], letters: str, ndim: int) -> NDArray[Any]:
    """Return an array of axes ``letters`` as (N, C, [Z,] Y, X).

    Raises
    ------
    ModelError
        If it has other axes.
    """
    if array.ndim != len(letters):
        raise ModelError(
            f"A test image of the package has {array.ndim} axes, the description says "
            f"{letters!r}. {MENDED}"
        )
    order = "bc" + "zyx"[-ndim:]
    present = [a for a in order if a in letters]
    array = array.transpose([letters.index(a) for a in present])
    for position, axis in enumerate(order):
        if axis not in present:
            array = np.expand_dims(array, position)
    return array


def run_trial(
    loaded: Loaded,
    description: Description,
    output: Output,
    image: NDArray[Any],
    expected: NDArray[Any],
) -> tuple[dict[str, Any], str]:
    """Compare a network with its package's test output.

    Parameters
    ----------
    loaded : Loaded
    description : Description
    output : Output
        How its channels are read.
    image, expected : array
        Axes as described.

    Returns
    -------
    record : dict
        Largest difference, tolerance, whether it was kept.
    note : str
        The same for the user.

    Raises
    ------
    ModelError
        If the network can not be run, or the shapes do not fit.
    """
    card = loaded.card
    image = arranged(image, description.input.letters, card.ndim)
    expected = arranged(expected, description.output.letters, card.ndim).astype(np.float64)
    if output.channel is not None:
        expected = expected[:, output.channel : output.channel + 1]
    found = np.stack([_result(loaded, description, one) for one in image])
    if found.shape != expected.shape:
        raise ModelError(
            f"The network returned {found.shape} for the package's test image; expected was "
            f"{expected.shape}. The package does not fit together. {MENDED}"
        )
    if output.threshold is not None:
        # Rounding decides where a value lies on the threshold.
        near = np.abs(found - output.threshold) < ABSOLUTE
        found = np.where(near, expected, found > output.threshold)
    difference = np.abs(found - expected)
    passed = bool((difference <= ABSOLUTE + RELATIVE * np.abs(expected)).all())
    largest = float(difference.max(initial=0.0))
    record = {
        "largest_difference": largest,
        "absolute_tolerance": ABSOLUTE,
        "relative_tolerance": RELATIVE,
        "passed": passed,
    }
    if passed:
        return record, f"The package's test image is reproduced to {largest:.1e}."
    return record, (
        f"On the package's own test image the result differs by up to {largest:.2g} from what "
        "its makers got."
    )


def _result(loaded: Loaded, description: Description, image: NDArray[Any]) -> NDArray[np.float64]:
    """Return what the package's test output should be, for one image (C, [Z,] Y, X)."""
    card = loaded.card
    normalisation = stated_normalisation(card)
    normaliser = NORMALISERS.load(normalisation.method)
    scaling = normaliser(sample_for_statistics(image), **normalisation.options)
    with torch.inference_mode():
        raw = loaded.network(torch.from_numpy(scaling.apply(image))[None])[0].double()
    named = {process.what for process in description.output.processes}
    if "softmax" in named:
        raw = raw.softmax(dim=0)
    elif "sigmoid" in named or (card.output == "logits" and "binarize" in named):
        raw = raw.sigmoid()
    return np.asarray(raw.numpy(), np.float64)
