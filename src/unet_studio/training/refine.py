"""Refine a model from annotations: hold back, train, judge, and hand over with the proof."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from unet_studio import __version__
from unet_studio.errors import AnnotationError, ModelError, RecipeError
from unet_studio.events import CancelToken, Event, Started, Warned, drain
from unet_studio.inference.devices import lacking, open_devices
from unet_studio.models.model import Model
from unet_studio.training.accepted import same_kind
from unet_studio.training.annotations import Annotations, annotations_on, check_annotations
from unet_studio.training.course import Course, Judgement, prepare_course
from unet_studio.training.curriculum import make_lessons
from unet_studio.training.fit import Fitted, fit_steps
from unet_studio.training.fit_settings import FitSettings
from unet_studio.training.guard import Verdict
from unet_studio.training.regions import find_regions

if TYPE_CHECKING:
    from torch import nn

    from unet_studio.images.volume import Volume
    from unet_studio.training.exercises import Exercise
    from unet_studio.training.lessons import Lessons


@dataclass(frozen=True)
class Refined:
    """A refined model, and how it compares with the one it came from.

    Attributes
    ----------
    model : Model
        Not saved yet; its card names the parent and holds the record of the training.
    verdict : Verdict
    curve : tuple of (int, float, float or None)
        Step, loss, and score on held-back regions where measured.
    record : dict
        How it was trained, ready for JSON.
    warnings : tuple of str
    """

    model: Model
    verdict: Verdict
    curve: tuple[tuple[int, float, float | None], ...]
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()


def refine_steps(
    pairs: Sequence[tuple[Volume, Annotations]],
    base: Model,
    settings: FitSettings | None = None,
    *,
    channels: Sequence[int] | None = None,
    device: str = "auto",
    name: str = "",
    corrects: Model | None = None,
    token: CancelToken | None = None,
    stop: CancelToken | None = None,
    latest: Callable[[], Sequence[Annotations] | None] | None = None,
    watch: Callable[[nn.Module, Sequence[Exercise]], None] | None = None,
) -> Generator[Event, None, Refined]:
    """Refine a model, reporting on the way.

    Parameters
    ----------
    pairs : sequence of (Volume, Annotations)
        Images and what was painted on each.
    base : Model
        Left as it is.
    settings : FitSettings, optional
    channels : sequence of int, optional
        Of the images, to feed to the network.
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    name : str
        Of the new model.
    corrects : Model, optional
        Whose result the latest strokes correct: what it finds where nobody painted is learned,
        too (:mod:`~unet_studio.training.accepted`). None if that is the base.
    token : CancelToken, optional
        Cancels: nothing is kept.
    stop : CancelToken, optional
        Stops early: what was learned so far is judged and returned.
    latest : callable, optional
        Returns the annotations of all images if they have changed, else None. Called
        from time to time while training; new strokes are learned from.
    watch : callable, optional
        Called after each step, on this thread, with the network that would be kept now and
        the images.

    Yields
    ------
    Event
        Started, Trained, Warned.

    Returns
    -------
    Refined

    Raises
    ------
    AnnotationError
        If nothing or one class only is annotated, or annotations do not fit.
    ModelError
        If the base can not be refined, or ``corrects`` is of another kind.
    Cancelled
        If ``token`` was set.
    UNetStudioError
        Others of its subclasses, with a message for the user.
    """
    token, settings = token or CancelToken(), settings or FitSettings()
    _check_base(base)
    if corrects is not None and not same_kind(corrects.card, base.card):
        raise ModelError(
            f"{base.card.name!r} can not learn from what {corrects.card.name!r} finds: their "
            "classes differ, or the images that they expect. Name the model whose result the "
            "latest strokes correct, or none."
        )
    check_annotations([a for _, a in pairs], base.card)
    (found, *_), notice = open_devices(device, 1)  # one learns
    warnings = [notice] if notice else []
    yield Started("measuring intensities")
    course = prepare_course(
        pairs, base, settings, found, channels, token.raise_if_cancelled, corrects
    )
    if not course.split.held_back:
        warnings.append(
            "No validation: too few annotations lie far enough from the others to be held back. "
            "The new model can not be compared with the old one; look at its result."
        )
    yield from (Warned(text) for text in warnings)
    with _told_what_lacks(found):
        yield Started("looking at the old model")
        judgement = Judgement(course, token)
        lessons = make_lessons(course, judgement, latest, token.raise_if_cancelled)
        if watch is not None:
            lessons.watch = lambda network: watch(network, course.exercises)
        yield Started("training")
        began = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        fitted = yield from fit_steps(
            base.network, base.card, lessons, settings, found, fresh=course.fresh,
            token=token, stop=stop,
        )  # fmt: skip
        token.raise_if_cancelled()
        yield Started("comparing")
        weights, verdict = judgement.final(fitted.weights)
    network = copy.deepcopy(base.network)
    network.load_state_dict(weights)
    network.eval().requires_grad_(False)
    record = _record(course, fitted, lessons, verdict, began)
    if fitted.judged_early:
        record["refined"]["kept"] = "last" if weights is fitted.weights else "judged"
    return Refined(
        _refined_model(base, network, name, record), verdict, tuple(fitted.curve), record,
        tuple(warnings),
    )  # fmt: skip


@contextmanager
def _told_what_lacks(device: torch.device) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:
        words = lacking(error, device)
        if words is None:
            raise
        raise RecipeError(
            f"The {device} can not train this network ({words}). Choose the CPU as device."
        ) from error


def refine(
    image: Any,
    annotations: Any,
    model: str | Model = "nuclei",
    *,
    axes: str | None = None,
    mode: str = "classes",
    classes: Sequence[str] | None = None,
    channels: Sequence[int] | None = None,
    device: str = "auto",
    name: str = "",
    corrects: str | Model | None = None,
    on_event: Callable[[Event], None] | None = None,
    token: CancelToken | None = None,
    stop: CancelToken | None = None,
    **settings: Any,
) -> Refined:
    """Refine a model from annotations of one or several images.

    Parameters
    ----------
    image : array, Volume, path, or list of these
    annotations : array of int, Annotations, path, or list of these
        One per image, axes as the image's without channels. 0 is not annotated, 1 is
        background; in class mode 2 and up are the model's classes, in object mode every
        other number is one object.
    model : str or Model
        To start from: name, path, or weight source (``"random:unet-slim"`` for a new one).
    axes : str, optional
        One letter out of TCZYX per dimension, where the images do not say.
    mode : {"classes", "objects"}
    classes : sequence of str, optional
        Makes a model of other classes from this one: one name for a thing to tell from
        background, or several, background first.
    channels : sequence of int, optional
    device : str
    name : str
        Of the new model.
    corrects : str or Model, optional
        The model on whose result the latest strokes were painted, if that is another than the
        one to start from: what it finds where nobody painted is learned, too.
    on_event : callable, optional
        Called with each event.
    token, stop : CancelToken, optional
        Cancel (keeps nothing) and stop (keeps what was learned so far).
    **settings
        Fields of :class:`~unet_studio.training.fit_settings.FitSettings`, such as ``seconds=60``
        or ``steps=100``.

    Returns
    -------
    Refined
        ``save_model(refined.model, path)`` keeps it; ``refined.verdict`` says whether it is
        better. The old model stays as it is.

    Raises
    ------
    UNetStudioError
        One of its subclasses, with a message that says what to do.
    """
    from unet_studio.models.model import load_model
    from unet_studio.training.retarget import retarget

    chosen = _settings(settings)
    pairs = _pairs(image, annotations, axes, mode)
    base = load_model(model)
    if classes is not None:
        base = retarget(base, classes, chosen.seed)
    steps = refine_steps(
        pairs, base, chosen, channels=channels, device=device, name=name,
        corrects=None if corrects is None else load_model(corrects), token=token, stop=stop,
    )  # fmt: skip
    result: Refined = drain(steps, on_event)
    return result


def _settings(values: dict[str, Any]) -> FitSettings:
    from pydantic import ValidationError

    try:
        return FitSettings(**values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RecipeError(
            f"These settings can not be used to refine: {problems}. Correct them."
        ) from None


def _pairs(
    image: Any, annotations: Any, axes: str | None, mode: Any
) -> list[tuple[Volume, Annotations]]:
    from unet_studio.images.volume import as_volume

    images = image if isinstance(image, list | tuple) else [image]
    painted = annotations if isinstance(annotations, list | tuple) else [annotations]
    if len(images) != len(painted):
        raise AnnotationError(
            f"{len(images)} images were given, but annotations of {len(painted)}; give one each."
        )
    pairs = []
    for one, labels in zip(images, painted, strict=True):
        volume = _read(one, axes) if _is_path(one) else as_volume(one, axes)
        if _is_path(labels):
            own = "".join(a for a in volume.axes.names if a != "C")
            labels = _read(labels, own)
        pairs.append((volume, annotations_on(volume, labels, mode=mode)))
    return pairs


def _is_path(value: Any) -> bool:
    from pathlib import Path

    return isinstance(value, str | Path)


def _read(path: Any, axes: str | None) -> Volume:
    from unet_studio.images.readers import read_image

    return read_image(path, axes)


def _check_base(base: Model) -> None:
    if base.card.output != "logits" or base.card.preparation is not None:
        raise ModelError(
            f"The model {base.card.name!r} was imported with "
            + ("its own last activation" if base.card.output != "logits" else "a preparation")
            + " and can not be refined. Start from another model."
        )


def _record(
    course: Course, fitted: Fitted, lessons: Lessons, verdict: Verdict, began: str
) -> dict[str, Any]:
    split = course.split
    corrected = course.corrected if course.settings.trust else None
    regions = sum(len(find_regions(a, course.base.card.ndim)) for a in split.training)
    return {
        "refined": {
            "began": began,
            "settings": course.settings.model_dump(mode="json"),
            "images": [e.volume.name for e in course.exercises],
            "annotated_pixels": sum(len(e.annotations) for e in course.exercises),
            "regions": {
                "learned": regions,
                "held_back": len(split.held_back),
                "chosen_by": len(split.choosing),
                "judged_on": len(split.judging),
                "left_out": split.left_out,
            },
            "steps": fitted.steps,
            "planned": fitted.planned,
            "skipped": fitted.skipped,
            "share": fitted.share,
            "seconds": round(fitted.seconds, 1),
            "ended": fitted.stopped,
            "judged_early": fitted.judged_early,
            "precision": "bfloat16" if fitted.half_wide else "float32",
            "guessed": not course.knows and course.base.card.ndim == 2,
            "corrects": corrected.card.name if corrected else None,
            "share_of_guess": round(lessons.share_of_guess, 3),
            "trust": round(lessons.trust, 3),
            "surplus": round(lessons.surplus, 3),
            "from": course.base.card.name,
            "verdict": verdict.as_dict(),
            "device": str(course.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "version": __version__,
        },
        "before": {k: v for k, v in course.base.card.training.items() if k != "before"},
    }


def _refined_model(base: Model, network: nn.Module, name: str, record: dict[str, Any]) -> Model:
    described = base.card.description if base.card.trained else ""
    card = base.card.model_copy(
        update={
            "name": name or f"{base.card.name.removesuffix(' (untrained)')} refined",
            "trained": True,
            "parent": base.sha256 or base.card.parent,
            "training": record,
            "seam_flips": (),  # measured on the old weights
            "description": f"{described} Refined from annotations.".strip(),
        }
    )
    return Model(card, network)
