"""What a refinement works with: images, what is held back, and the judgement."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from unet_studio.training.exercises import Exercise, open_exercise
from unet_studio.training.guard import Judge, Verdict, judge
from unet_studio.training.keeping import Weights, on_the_cpu
from unet_studio.training.regions import Split, filled, split_annotations
from unet_studio.training.rehearsal import agreement, frozen_copy, rehearsal_images
from unet_studio.training.retarget import is_retargeted

if TYPE_CHECKING:
    from torch import nn

    from unet_studio.events import CancelToken
    from unet_studio.images.volume import Volume
    from unet_studio.models.card import ModelCard
    from unet_studio.models.model import Model
    from unet_studio.training.annotations import Annotations
    from unet_studio.training.fit_settings import FitSettings

_THEN = "After that it learned from these, too."


@dataclass(frozen=True)
class Course:
    """What a refinement works with.

    Attributes
    ----------
    base : Model
    exercises : tuple of Exercise
        With everything that was annotated.
    split : Split
    settings : FitSettings
    device : torch.device
    fresh : bool
        The base's weights are random.
    corrected : Model or None
        Whose result was painted on.
    """

    base: Model
    exercises: tuple[Exercise, ...]
    split: Split
    settings: FitSettings
    device: torch.device
    fresh: bool
    corrected: Model | None = None

    @property
    def training(self) -> tuple[Exercise, ...]:
        """The exercises with what is learned from alone."""
        pairs = zip(self.exercises, self.split.training, strict=True)
        return tuple(e.with_annotations(a) for e, a in pairs)

    @property
    def knows(self) -> bool:
        """Whether the base has found before what it is to find."""
        return not self.fresh and not is_retargeted(self.base)

    @property
    def halos(self) -> tuple[int, ...]:
        """Radius of the receptive field, [Z] Y X; of unbounded ones the patch."""
        return self.base.card.halos or self.base.card.patches


def reach(card: ModelCard) -> tuple[int, ...]:
    """Return the distances beyond which no pixel has a say in another's result, [Z] Y X.

    A halo is counted from the block of a pooling that a pixel lies in, so the pixel
    itself sees almost a block farther. Of an unbounded field the training patch.
    """
    halos = card.halos or card.patches
    return tuple(h + s - 1 for h, s in zip(halos, card.strides, strict=True))


def prepare_course(
    pairs: Sequence[tuple[Volume, Annotations]],
    base: Model,
    settings: FitSettings,
    device: torch.device,
    channels: Sequence[int] | None,
    check: Callable[[], None],
    corrected: Model | None = None,
) -> Course:
    """Open the images and hold back what the result will be judged on.

    Parameters
    ----------
    pairs : sequence of (Volume, Annotations)
    base : Model
    settings : FitSettings
    device : torch.device
    channels : sequence of int, optional
    check : callable
        Called between blocks that are read; may raise to stop.
    corrected : Model, optional
        Whose result was painted on, of the same kind as the base.

    Raises
    ------
    UNetStudioError
    """
    exercises = tuple(open_exercise(v, filled(a), base.card, channels, check) for v, a in pairs)
    split = split_annotations([e.annotations for e in exercises], reach(base.card), settings.seed)
    return Course(base, exercises, split, settings, device, not base.card.trained, corrected)


class Judgement:
    """What the old model says, and the verdict on the new one.

    Attributes
    ----------
    course : Course
    chance_apart : float or None
        How likely strokes were told apart as well if their classes meant nothing, where that is
        known.
    """

    def __init__(self, course: Course, token: CancelToken) -> None:
        self.course, self._token = course, token
        self.chance_apart: float | None = None
        card, device = course.base.card, course.device
        self._old = frozen_copy(course.base.network, device)
        self._judge = Judge(course.exercises, course.split.judging, card, device, course.halos)
        self._before = self._judge.look(self._old, token.raise_if_cancelled)
        self._early: tuple[Weights, Verdict] | None = None

    def of(self, network: nn.Module) -> Verdict:
        """Judge a network that has not seen what it is judged by."""
        course = self.course
        new = frozen_copy(network, course.device)
        agreed = kept = None
        after = self._judge.look(new, self._token.raise_if_cancelled)
        if course.knows:
            agreed = agreement(
                self._old, new, course.base.card, rehearsal_images(course.base.card)
            )
            kept = self._judge.kept(self._before, after)
        gains = after.beliefs - self._before.beliefs
        kinds = self._judge.kinds
        return judge(
            self._before.scores, after.scores, kinds, agreed, kept, gains, self.chance_apart
        )

    def early(self, network: nn.Module) -> None:
        """Judge a network that will learn from what it is judged by."""
        self._early = (on_the_cpu(network.state_dict()), self.of(network))

    def final(self, weights: Weights) -> tuple[Weights, Verdict]:
        """Return the weights to keep, and the verdict.

        Parameters
        ----------
        weights : dict of tensor
            What came out of the training. If they were judged early, and know less of what they
            were judged by than then, those of then are kept.
        """
        network = copy.deepcopy(self.course.base.network)
        network.load_state_dict(weights)
        if self._early is None:
            return weights, self.of(network)
        judged, verdict = self._early
        if verdict.new is None:  # too few to tell
            return weights, verdict
        after = self._judge.scores(frozen_copy(network, self.course.device))
        if self._judge.balanced(after) < verdict.new:
            return judged, verdict
        return weights, replace(verdict, reason=f"{verdict.reason} {_THEN}")
