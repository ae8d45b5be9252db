"""What a training is given: what to learn from, what to keep to, and when to be judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from unet_studio.training.accepted import Answers, accepted, ask, blended
from unet_studio.training.course import reach
from unet_studio.training.crops import crop_edges, crops_per_step
from unet_studio.training.first_guess import first_guess
from unet_studio.training.guard import Judge
from unet_studio.training.lessons import Lessons
from unet_studio.training.regions import filled, find_regions, without
from unet_studio.training.rehearsal import frozen_copy, rehearsal_crops, rehearsal_images
from unet_studio.training.sampler import CropSampler

if TYPE_CHECKING:
    from torch import nn

    from unet_studio.models.model import Model
    from unet_studio.training.annotations import Annotations
    from unet_studio.training.course import Course, Judgement
    from unet_studio.training.exercises import Exercise
    from unet_studio.training.surroundings import Guess

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
# A guess is all that a new model knows of what was not painted: it counts so many times what
# strokes do, and most crops are from where nobody painted (measured there, too).
_GUESS = 5.0
_GUESSED_ANYWHERE = 0.75
# Strokes lie on errors, and where what was painted looks like what was not, who guesses by looks
# is sure of hardly anything, and wrong of most: below such a certainty a guess soon counts less,
# and the network, with less to go by, starts to learn more slowly (measured there, too).
_SURE_ENOUGH, _DROP = 0.6, 3
# About as many strokes show a thing as do not, but of most images it is less than a third: without
# that, too much is found (measured there, too; for one thing and its background alone).
_IN_STROKES, _IN_IMAGES = 0.5, 0.3
# Of the time for training, to see what a corrected model finds.
_ASKING = 0.1


def make_lessons(
    course: Course,
    judgement: Judgement,
    latest: Callable[[], Sequence[Annotations] | None] | None = None,
    check: Callable[[], None] | None = None,
) -> Lessons:
    """Make what the training loop works with.

    Parameters
    ----------
    course : Course
    judgement : Judgement
        Asked for its verdict before the last third, where that learns from everything.
    latest : callable, optional
        As of :func:`~unet_studio.training.refine.refine_steps`.
    check : callable, optional
        Called between planes that are looked at; may raise to stop.
    """
    card, settings = course.base.card, course.settings
    generator = torch.Generator().manual_seed(settings.seed)
    crop = crop_edges(card, settings.crop, [e.shape for e in course.exercises])
    taught = _Taught(course, crop, generator, latest, check)
    judgement.chance_apart = taught.chance_apart
    lessons = Lessons(
        taught.sampler(),
        crops_per_step(crop, settings),
        trust=settings.trust * _WORD_NEAR,
        trust_far=settings.trust * _WORD_FAR,
        haste=taught.heed,
    )

    def weigh() -> None:
        if not course.knows:
            lessons.trust, lessons.surplus = settings.trust * _GUESS * taught.heed, taught.surplus
            # What was accepted is of images, not of strokes.
            lessons.guess_surplus = taught.share_of_guess * taught.surplus
        lessons.share_of_guess = taught.share_of_guess

    weigh()
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

    def refresh() -> CropSampler | None:
        sampler = taught.refresh()
        if sampler is not None:
            weigh()
        return sampler

    def last_third(network: nn.Module) -> CropSampler:
        judgement.early(network)
        sampler = taught.everything()
        weigh()
        return sampler

    if latest is not None:
        lessons.refresh = refresh

    # What knows the kind of thing gains nothing by it (benchmarks/results/refine.md).
    if course.split.judging and not course.split.choosing and not course.knows:
        lessons.last_third = last_third
    return lessons


class _Taught:
    """What is learned from: strokes as they are now, and a guess of what they mean around."""

    def __init__(
        self,
        course: Course,
        crop: Sequence[int],
        generator: torch.Generator,
        latest: Callable[[], Sequence[Annotations] | None] | None,
        check: Callable[[], None] | None,
    ) -> None:
        self._course, self._crop, self._generator = course, tuple(crop), generator
        self._latest, self._check = latest, check
        self._held = course.split.held_back
        self._newest = [e.annotations for e in course.exercises]
        self.chance_apart: float | None = None
        self.heed = 1.0  # how much of its weight a guess has, or what was accepted
        self.share_of_guess = 0.0  # the rest is what was accepted
        self._guesses: Sequence[Guess | None] = ()  # by strokes alone
        self._believed = 1.0  # how far guesses are
        self._answers: Answers | None = None
        if course.corrected is not None and course.settings.trust:
            self._answers = _asked(course, course.corrected, check)
        self._exercises = self._guessed(course.training, course.exercises)

    @property
    def surplus(self) -> float:
        """Log-odds of the thing in what is learned from, less those in images.

        Less, the more was painted: who paints everything shows how much of it there is.
        """
        card = self._course.base.card
        several = card.representation == "classes" and card.out_channels != 2
        if several or not any(self._guesses):
            return 0.0
        painted = seen = 0
        for exercise, newest in zip(self._exercises, self._newest, strict=True):
            for part in exercise.guess.parts if exercise.guess else ():
                offset = newest.places - (*part.frame, *part.start)
                inside = (offset >= 0) & (offset < (*(1 for _ in part.frame), *part.shape))
                painted += int(inside.all(axis=1).sum())
                seen += math.prod(part.shape)
        if not seen:
            return 0.0
        odds = [math.log(share / (1 - share)) for share in (_IN_STROKES, _IN_IMAGES)]
        return (odds[0] - odds[1]) * (1 - painted / seen)

    def sampler(self) -> CropSampler:
        """Return what draws crops."""
        course = self._course
        share = (
            (_ANYWHERE if course.knows else _GUESSED_ANYWHERE) if course.settings.trust else 0.0
        )
        card = course.base.card
        return CropSampler(
            self._exercises, card, self._crop, self._generator, anywhere=share,
            beyond=course.knows,
        )  # fmt: skip

    def refresh(self) -> CropSampler | None:
        """Take up new strokes, those near held-back regions excepted; None if there are none."""
        if not self._look():
            return None
        halos = reach(self._course.base.card)
        self._exercises = self._with_guesses([
            e.with_annotations(without(a, self._held, i, halos))
            for i, (e, a) in enumerate(zip(self._exercises, self._newest, strict=True))
        ])  # fmt: skip
        return self.sampler()

    def everything(self) -> CropSampler:
        """Hold nothing back any more."""
        self._look()
        self._held = ()
        pairs = zip(self._course.exercises, self._newest, strict=True)
        self._exercises = self._guessed([e.with_annotations(a) for e, a in pairs])
        return self.sampler()

    def _look(self) -> bool:
        """Whether strokes have changed."""
        every = self._latest() if self._latest is not None else None
        if every is not None:
            self._newest = [filled(a) for a in every]
        return every is not None

    def _guessed(
        self, exercises: Sequence[Exercise], every: Sequence[Exercise] | None = None
    ) -> list[Exercise]:
        """Add what was accepted, or a first guess of it if the base knows nothing of it.

        With ``every``, what is held back included, it is also seen whether classes mean anything.
        """
        course = self._course
        card, settings = course.base.card, course.settings
        self._guesses, self._believed = (None,) * len(exercises), 1.0
        if not course.knows and card.ndim == 2 and settings.trust:
            count = card.out_channels if card.representation == "classes" else 2
            guessed = first_guess(exercises, count, settings.seed, self._check, every)
            if every is not None:
                self.chance_apart = guessed.chance
            if guessed.certainty is not None:
                self._believed = min(1.0, guessed.certainty / _SURE_ENOUGH) ** _DROP
            self._guesses = guessed.guesses
        return self._with_guesses(exercises)

    def _with_guesses(self, exercises: Sequence[Exercise]) -> list[Exercise]:
        """Add what is guessed, or what of a corrected model's result strokes leave as it is."""
        guesses, self.heed = list(self._guesses), self._believed
        self.share_of_guess = float(any(guesses))
        if self._answers is not None:
            answers = accepted(self._answers, exercises, self._held, reach(self._course.base.card))
            guesses, share = blended(guesses, answers, self._believed)
            self.share_of_guess, self.heed = share, share * self._believed + 1 - share
        return [replace(e, guess=g) for e, g in zip(exercises, guesses, strict=True)]


def _asked(course: Course, corrected: Model, check: Callable[[], None] | None) -> Answers:
    """Return what a corrected model finds, as far as there is time to look."""
    settings = course.settings
    limit = math.inf if settings.steps else _ASKING * settings.seconds
    return ask(corrected, course.exercises, course.device, settings.seed, limit, check)


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
