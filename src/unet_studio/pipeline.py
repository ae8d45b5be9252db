"""The whole path: image, tiles, network, probabilities, objects, labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from unet_studio.axes import Axes, rearrange
from unet_studio.errors import RecipeError
from unet_studio.events import CancelToken, Event, Started, Warned, drain, steps_done
from unet_studio.images.volume import Volume, as_volume
from unet_studio.inference.plan import resolve
from unet_studio.inference.prediction import Prediction
from unet_studio.objects.found import Found
from unet_studio.recipe import ObjectsMethod, parse_recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from unet_studio.models.model import Model
    from unet_studio.recipe import Recipe


@dataclass(frozen=True)
class Segmentation(Found):
    """The result of a run.

    Attributes
    ----------
    labels : array of int
        Object ids (or class ids); 0 is background. Axes as in ``axes``.
    axes : Axes
        The image's own order of axes, without channels.
    measurements : dict of array
        One value per object (and frame) in each column; empty if nothing was measured.
    record : dict
        The run record, ready for JSON.
    prediction : Prediction
        From which :func:`relabel` makes other labels without the network.
    warnings : tuple of str
    tracks : dict of array
        What became of each object, one value per object in each column
        (:class:`~unet_studio.objects.linking.Tracks`); empty if objects were not
        linked through time.
    """

    labels: NDArray[np.integer[Any]]
    axes: Axes
    measurements: dict[str, NDArray[Any]]
    record: dict[str, Any]
    prediction: Prediction
    warnings: tuple[str, ...] = ()
    tracks: dict[str, NDArray[Any]] = field(default_factory=dict)


def segment_steps(
    volume: Volume,
    recipe: Recipe,
    *,
    model: Model | None = None,
    token: CancelToken | None = None,
) -> Generator[Event, None, Segmentation]:
    """Run a recipe on an image, reporting on the way.

    Parameters
    ----------
    volume : Volume
    recipe : Recipe
    model : Model, optional
        The recipe's model, if it is loaded already.
    token : CancelToken, optional

    Yields
    ------
    Event

    Returns
    -------
    Segmentation

    Raises
    ------
    UNetStudioError
        One of its subclasses, with a message for the user.
    """
    from unet_studio.inference.predictor import predict_steps
    from unet_studio.models.model import load_model

    token = token or CancelToken()
    if model is None:
        yield Started("loading the model")
        model = load_model(recipe.model)
    token.raise_if_cancelled()
    plan = resolve(recipe, model.card, volume.info)
    prediction = yield from predict_steps(volume, model, plan, token=token)
    token.raise_if_cancelled()
    yield Started("making objects")
    result = yield from relabel_steps(
        prediction, recipe.objects, measure=recipe.measure, token=token
    )
    # Those of the prediction have been told.
    yield from (Warned(text) for text in result.warnings if text not in prediction.warnings)
    return result


def relabel(
    prediction: Prediction,
    method: ObjectsMethod | None = None,
    measure: bool = True,
    *,
    token: CancelToken | None = None,
) -> Segmentation:
    """Make labels from kept probabilities: the last step of the path, alone.

    Parameters
    ----------
    prediction : Prediction
    method : ObjectsMethod, optional
        The model's own if not given.
    measure : bool
        Measure size and position of each object.
    token : CancelToken, optional
        Looked at between frames, and between the blocks of a large one.

    Raises
    ------
    Cancelled
        If the token was set.
    RecipeError
        If the method or one of its options does not exist or does not fit the model.
    """
    result: Segmentation = drain(relabel_steps(prediction, method, measure, token=token))
    return result


def relabel_steps(
    prediction: Prediction,
    method: ObjectsMethod | None = None,
    measure: bool = True,
    *,
    token: CancelToken | None = None,
) -> Generator[Event, None, Segmentation]:
    """Do what :func:`relabel` does, reporting on the way.

    Yields
    ------
    Event
        :class:`~unet_studio.events.TileDone` for each frame or block.

    Returns
    -------
    Segmentation
    """
    from unet_studio.inference.record import with_objects
    from unet_studio.objects.measurements import measure as measure_objects
    from unet_studio.objects.run import run_objects_steps

    began = time.perf_counter()
    token = token or CancelToken()
    check = token.raise_if_cancelled
    labelling = yield from steps_done(run_objects_steps(prediction, method, check=check))
    measurements = {}
    if measure:
        measurements = measure_objects(
            labelling.labels, labelling.axes, counted=labelling.counted, check=check
        )
    token.raise_if_cancelled()
    axes = prediction.info.axes.without("C")
    labels = rearrange(labelling.labels, labelling.axes.names, axes.names)
    record = with_objects(
        prediction.record,
        labelling,
        measure=measure,
        warnings=[*prediction.record.get("warnings", []), *labelling.warnings],
        seconds=time.perf_counter() - began,
    )
    return Segmentation(
        labels,
        axes,
        measurements,
        record,
        prediction,
        (*prediction.warnings, *labelling.warnings),
        labelling.tracks.columns() if labelling.tracks is not None else {},
    )


def segment(
    image: Any,
    model: str | Model = "nuclei",
    *,
    axes: str | None = None,
    on_event: Callable[[Event], None] | None = None,
    token: CancelToken | None = None,
    **options: Any,
) -> Segmentation:
    """Segment an image.

    Parameters
    ----------
    image : array, Volume, or path
        numpy, dask or zarr array, a :class:`~unet_studio.images.volume.Volume`, or a file.
    model : str or Model
        Name, path, weight source, or a loaded model.
    axes : str, optional
        One letter out of TCZYX per dimension, where the image does not say.
    on_event : callable, optional
        Called with each event of the run.
    token : CancelToken, optional
    **options
        Other fields of the :class:`~unet_studio.recipe.Recipe`, such as ``channels=(0,)``,
        ``device="cpu"`` or ``objects={"method": "watershed", "options": {...}}``.

    Returns
    -------
    Segmentation

    Raises
    ------
    UNetStudioError
        One of its subclasses, with a message that says what to do.

    Examples
    --------
    >>> import numpy as np
    >>> from unet_studio import segment
    >>> result = segment(np.zeros((64, 64), np.uint8), "random:unet-tiny")
    >>> result.labels.shape
    (64, 64)
    """
    volume, recipe, loaded = prepare(image, model, axes, options)
    steps = segment_steps(volume, recipe, model=loaded, token=token)
    result: Segmentation = drain(steps, on_event)
    return result


def predict(
    image: Any,
    model: str | Model = "nuclei",
    *,
    axes: str | None = None,
    keep: Literal["probabilities", "logits"] = "probabilities",
    on_event: Callable[[Event], None] | None = None,
    token: CancelToken | None = None,
    **options: Any,
) -> Prediction:
    """Return the network's probabilities (or logits) of an image.

    Parameters are those of :func:`segment`; ``keep`` is "probabilities"
    (float16) or "logits" (float32).

    Raises
    ------
    UNetStudioError
        One of its subclasses, with a message that says what to do.
    """
    if keep not in ("probabilities", "logits"):
        raise RecipeError(f"keep is {keep!r}; it can be 'probabilities' or 'logits'.")
    from unet_studio.inference.predictor import predict_steps
    from unet_studio.models.model import load_model

    volume, recipe, loaded = prepare(image, model, axes, options)
    loaded = loaded or load_model(recipe.model)
    plan = resolve(recipe, loaded.card, volume.info)
    steps = predict_steps(
        volume,
        loaded,
        plan,
        token=token,
        keep=keep,
    )
    result: Prediction = drain(steps, on_event)
    return result


def prepare(
    image: Any, model: str | Model, axes: str | None, options: dict[str, Any]
) -> tuple[Volume, Recipe, Model | None]:
    """Return volume, recipe and, if one was given, model of what a caller passed.

    Parameters are those of :func:`segment`, ``options`` being the other fields of
    the recipe.
    """
    from pathlib import Path

    if isinstance(image, str | Path):
        from unet_studio.images.readers import read_image

        volume = read_image(Path(image), axes)
    else:
        volume = as_volume(image, axes)
    loaded = None if isinstance(model, str | Path) else model
    name = str(model) if loaded is None else (str(loaded.path or loaded.card.name))
    recipe = parse_recipe({"model": name, "axes": axes, **options})
    return volume, recipe, loaded
