"""What a refinement works with: images, what is held back, lessons, and the judgement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from unet_studio.training.crops import crop_edges, crops_per_step
from unet_studio.training.exercises import Exercise, open_exercise
from unet_studio.training.first_guess import first_guess
from unet_studio.training.guard import Judge, Verdict, judge
from unet_studio.training.lessons import Lessons
from unet_studio.training.regions import Split, filled, find_regions, split_annotations, without
from unet_studio.training.rehearsal import (
    agreement,
    frozen_copy,
    rehearsal_crops,
    rehearsal_images,
)
from unet_studio.training.retarget import is_retargeted
from unet_studio.training.sampler import CropSampler

if TYPE_CHECKING:
    from torch import nn

    from unet_studio.events import CancelToken
    from unet_studio.images.volume import Volume
    from unet_studio.models.card import ModelCard
    from unet_studio.models.model import Model
    from unet_studio.training.annotations import Annotations
    from unet_studio.training.fit_settings import FitSettings

# While training, held-back regions are seen with less around them: it is quicker.
_GLANCE_HALO = 32
_GLANCED = 12
# Regions that are learned from, of the old model's word around which enough is to stay.
_LOOKED_BACK = {2: 16, 3: 4}
# An old model is right nearly everywhere that nobody painted, and the strokes, which lie on its
# errors alone, do not say so: its word counts so many times around strokes, and more away from
# them, where half of the crops are taken (measured in benchmarks/results/refine.md).
_WORD_NEAR, _WORD_FAR = 4.0, 8.0
_ANYWHERE = 0.5


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
    """

    base: Model
    exercises: tuple[Exercise, ...]
    split: Split
    settings: FitSettings
    device: torch.device
    fresh: bool

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

    Raises
    ------
    UNetStudioError
    """
    exercises = tuple(open_exercise(v, filled(a), base.card, channels, check) for v, a in pairs)
    split = split_annotations([e.annotations for e in exercises], reach(base.card), settings.seed)
    return Course(base, exercises, split, settings, device, not base.card.trained)


class Judgement:
    """What the old model says, and the verdict on the new one."""

    def __init__(self, course: Course, token: CancelToken) -> None:
        self.course = course
        card, device = course.base.card, course.device
        self.old = frozen_copy(course.base.network, device)
        self.judge = Judge(course.exercises, course.split.judging, card, device, course.halos)
        check = token.raise_if_cancelled
        self.before = self.judge.look(self.old, check)

    def of(self, network: nn.Module, token: CancelToken) -> Verdict:
        """Judge a network."""
        course = self.course
        new = frozen_copy(network, course.device)
        agreed = kept = None
        after = self.judge.look(new, token.raise_if_cancelled)
        if course.knows:
            agreed = agreement(self.old, new, course.base.card, rehearsal_images(course.base.card))
            kept = self.judge.kept(self.before, after)
        gains = after.beliefs - self.before.beliefs
        return judge(self.before.scores, after.scores, self.judge.kinds, agreed, kept, gains)


def make_lessons(
    course: Course,
    latest: Callable[[], Sequence[Annotations] | None] | None = None,
    check: Callable[[], None] | None = None,
) -> Lessons:
    """Make what the training loop works with.

    Parameters
    ----------
    course : Course
    latest : callable, optional
        As of :func:`~unet_studio.training.refine.refine_steps`.
    check : callable, optional
        Called between planes that are looked at; may raise to stop.
    """
    card, settings = course.base.card, course.settings
    generator = torch.Generator().manual_seed(settings.seed)
    crop = crop_edges(card, settings.crop, [e.shape for e in course.exercises])
    exercises = list(course.training)
    if not course.knows and card.ndim == 2 and settings.trust:
        count = card.out_channels if card.representation == "classes" else 2
        guesses = first_guess(exercises, count, settings.seed, check)
        exercises = [replace(e, guess=g) for e, g in zip(exercises, guesses, strict=True)]
    lessons = Lessons(
        CropSampler(exercises, card, crop, generator, anywhere=_anywhere(course)),
        crops_per_step(crop, settings),
        trust=settings.trust * (_WORD_NEAR if course.knows else 1.0),
        trust_far=settings.trust * (_WORD_FAR if course.knows else 1.0),
    )
    if settings.rehearse and course.knows:
        images = rehearsal_images(card)
        if images:
            lessons.rehearsal = rehearsal_crops(images, crop, generator)
    seen = course.split.choosing or course.split.judging
    if seen:
        glance = [min(h, _GLANCE_HALO) for h in course.halos]
        scorer = Judge(course.exercises, seen, card, course.device, glance, _GLANCED)
        lessons.score = lambda network: scorer.balanced(scorer.scores(network))
        lessons.chooses = bool(course.split.choosing)
    if course.knows:
        lessons.keeps = _keeper(course, check)
    if latest is not None:
        lessons.refresh = _refresher(course, exercises, latest, crop, generator)
    return lessons


def _keeper(
    course: Course, check: Callable[[], None] | None
) -> Callable[[nn.Module], float | None]:
    """Return what measures how much stays of what the base was sure of, around what is learned.

    What is held back has no part in it.
    """
    card, ndim = course.base.card, course.base.card.ndim
    learned = [r for i, a in enumerate(course.split.training) for r in find_regions(a, ndim, i)]
    glance = [min(h, _GLANCE_HALO) for h in course.halos]
    most = _LOOKED_BACK[ndim]
    judge = Judge(course.exercises, learned, card, course.device, glance, most)
    before = judge.look(frozen_copy(course.base.network, course.device), check)
    return lambda network: judge.kept(before, judge.look(network, check))


def _anywhere(course: Course) -> float:
    return _ANYWHERE if course.knows and course.settings.trust else 0.0


def _refresher(
    course: Course,
    learned: Sequence[Exercise],
    latest: Callable[[], Sequence[Annotations] | None],
    crop: Sequence[int],
    generator: torch.Generator,
) -> Callable[[], CropSampler | None]:
    """Return what takes up new strokes, those near held-back regions excepted."""

    def refresh() -> CropSampler | None:
        every = latest()
        if every is None:
            return None
        held = course.split.held_back
        exercises = [
            e.with_annotations(without(filled(a), held, i, reach(course.base.card)))
            for i, (e, a) in enumerate(zip(learned, every, strict=True))
        ]
        card = course.base.card
        return CropSampler(exercises, card, crop, generator, anywhere=_anywhere(course))

    return refresh
