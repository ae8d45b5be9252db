"""Predict images that a model wants prepared as a whole: resized, cropped, resampled.

Each frame is read, prepared, predicted like any image, and what comes out is
brought back onto the frame's own grid.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unet_studio.axes import Axes
from unet_studio.events import CancelToken, Event, Warned
from unet_studio.images.preparation import Prepared, open_preparation
from unet_studio.images.volume import Volume
from unet_studio.inference.executor import activate
from unet_studio.inference.plan import RunPlan, resolve
from unet_studio.inference.prediction import Prediction
from unet_studio.inference.predictor import (
    empty_output,
    lost_warning,
    make_background,
    predict_steps,
)
from unet_studio.inference.record import image_record
from unet_studio.models.model import Model

# Decisions made on the device can not be brought back onto the image's own grid.
Kept = Literal["probabilities", "logits"]


def predict_prepared_steps(
    volume: Volume,
    model: Model,
    plan: RunPlan,
    *,
    token: CancelToken | None = None,
    keep: Kept = "probabilities",
    output: Any = None,
) -> Generator[Event, None, Prediction]:
    """Predict an image with a model whose card names a preparation.

    Parameters, events and errors are those of
    :func:`unet_studio.inference.predictor.predict_steps`.

    Returns
    -------
    Prediction
        On the image's own grid.
    """
    assert model.card.preparation is not None
    token = token or CancelToken()
    preparer = open_preparation(model.card.preparation)
    bare = replace(model, card=model.card.model_copy(update={"preparation": None}))
    axes = volume.axes.with_channels()
    if output is None:
        output = empty_output(plan, keep)
    warnings: list[str] = []
    record: dict[str, Any] = {}
    yield from _told(plan.warnings, warnings)
    for key, frame, lost in _frames(volume, plan):
        token.raise_if_cancelled()
        prepared = preparer.prepare(frame, _spatial(volume))
        yield from _told(prepared.warnings, warnings)
        inside: Kept = "logits" if prepared.restores == "logits" else keep
        steps = _predict_frame(prepared, plan, bare, token, inside)
        part = yield from _once(steps, warnings)
        values = prepared.restore(np.asarray(part.probabilities, np.float32))
        if inside != keep:
            logits = torch.from_numpy(values)[None]
            values = activate(logits, plan.card.representation)[0].numpy()
        if prepared.unseen is not None:
            make_background(values, prepared.unseen, plan.card, keep)
        if lost is not None:
            make_background(values, lost, plan.card, keep)
            yield from _told([lost_warning(int(lost.sum()), plan)], warnings)
        output[key] = values
        record = _added(record, part.record)
    record = _described(record, plan, warnings)
    return Prediction(output, axes, model.card, plan.info, record, tuple(warnings), keep)


def _spatial(volume: Volume) -> Axes:
    axes = volume.axes.canonical
    return axes.select(axes.spatial)


def _frames(
    volume: Volume, plan: RunPlan
) -> Iterator[tuple[Any, NDArray[np.float32], NDArray[np.bool_] | None]]:
    """Yield where each frame goes, the frame (C, [Z,] Y, X), and where it has no number."""
    times = range(plan.info.length("T")) if "T" in volume.axes else [None]
    for time in times:
        block = volume.read({} if time is None else {"T": time}, plan.channels)
        frame = plan.channel_map.expand(plan.channel_map.mix(block)).astype(np.float32)
        missing = np.asarray(~np.isfinite(frame).all(axis=0))
        if missing.any():
            frame[:, missing] = 0
        lost = missing if missing.any() else None
        yield (... if time is None else time), frame, lost


def _predict_frame(
    prepared: Prepared,
    plan: RunPlan,
    model: Model,
    token: CancelToken,
    keep: Kept,
) -> Generator[Event, None, Prediction]:
    """Predict what was prepared, as an image of its own."""
    names = "C" + "ZYX"[-(prepared.image.ndim - 1) :]
    inside = Volume(prepared.image, Axes(names), plan.info.name, plan.info.name)
    # Channels are chosen, mixed and repeated already.
    recipe = plan.recipe.model_copy(
        update={"channels": tuple(range(model.card.in_channels)), "axes": None}
    )
    # What is short of memory, the plan of the whole image has said.
    inner = resolve(recipe, model.card, inside.info, streamed=True)
    prediction: Prediction = yield from predict_steps(inside, model, inner, token=token, keep=keep)
    return prediction


def _told(texts: Iterable[str], warnings: list[str]) -> Iterator[Event]:
    """Add what has not been said yet to the warnings, and yield it."""
    for text in texts:
        if text not in warnings:
            warnings.append(text)
            yield Warned(text)


def _once(
    steps: Generator[Event, None, Prediction], warnings: list[str]
) -> Generator[Event, None, Prediction]:
    """Pass events on, but each warning only once over all frames."""
    while True:
        try:
            event = next(steps)
        except StopIteration as stop:
            prediction: Prediction = stop.value
            return prediction
        if isinstance(event, Warned):
            if event.message in warnings:
                continue
            warnings.append(event.message)
        yield event


def _added(record: dict[str, Any], frame: dict[str, Any]) -> dict[str, Any]:
    """Return the record of all frames so far: tiles and seconds add up."""
    if not record:
        return frame
    tiles = {**frame["tiles"], "count": record["tiles"]["count"] + frame["tiles"]["count"]}
    seconds = round(record["seconds"]["predict"] + frame["seconds"]["predict"], 3)
    return {**frame, "tiles": tiles, "seconds": {"predict": seconds}}


def _described(record: dict[str, Any], plan: RunPlan, warnings: list[str]) -> dict[str, Any]:
    """Return the record of the frames as that of the whole image."""
    preparation = plan.card.preparation
    return {
        **record,
        "recipe": plan.recipe.model_dump(mode="json"),
        "image": image_record(plan.info),
        "channels": list(plan.channels),
        "preparation": preparation.model_dump(mode="json") if preparation else None,
        "warnings": list(warnings),
    }
