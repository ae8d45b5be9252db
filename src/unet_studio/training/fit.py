"""The training loop: few steps, few labels, and nothing kept that is worse."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unet_studio.events import CancelToken, Event, Trained, Warned
from unet_studio.training.first_guess import foreground_of, has_said
from unet_studio.training.keeping import Keeper
from unet_studio.training.mixed_precision import is_quicker_in_bfloat16
from unet_studio.training.optimiser import AdamW
from unet_studio.training.parts import encoder_parameters, head_parameters
from unet_studio.training.retarget import NEW_HEAD
from unet_studio.training.sparse_loss import (
    as_painted,
    contradicted,
    corrected_word,
    guess_loss,
    rehearsal_loss,
    sparse_loss,
    trust_loss,
)

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard
    from unet_studio.training.fit_settings import FitSettings
    from unet_studio.training.lessons import Lessons
    from unet_studio.training.sampler import Batch, CropSampler

# Before the first plan of a run with a limit of time is made.
_TIMED_STEPS = 5
_WARM_UP = 5
_OVERTIME = 1.15
_NEW_HEAD_SHARE = 10.0
# Under a new last layer all others have a new task, and learn up to so many times quicker than to
# correct what they do (measured in benchmarks/results/refine.md).
_NEW_TASK = 3.0
# An encoder that has to see other things than before learns at least at this rate.
_LEARNING_SHARE = 0.5
# With less, what is told of corrected results costs more than 0.02 AP on the sample images' kind
# (measured there, too).
_REHEARSAL = 5.0
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class Fitted:
    """What came out of a training.

    Attributes
    ----------
    weights : dict of tensor
        On the way from the old ones to the averaged ones of the last step, or, where a
        score may choose, of the best evaluation; on the CPU.
    share : float
        Of that way.
    steps, planned : int
    skipped : int
        Batches without any annotated pixel.
    seconds : float
    curve : list of tuple
        Step, loss, and score or None.
    judged_early : bool
        Whether it was judged after two thirds, and learned from everything then.
    half_wide : bool
        Whether the network was computed in bfloat16.
    stopped : str
        Why it ended: "done", "stopped", "early", "time", "diverged", "erased".
    """

    weights: dict[str, torch.Tensor]
    share: float = 1.0
    steps: int = 0
    planned: int = 0
    skipped: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float, float | None]] = field(default_factory=list)
    judged_early: bool = False
    half_wide: bool = False
    stopped: str = "done"


def fit_steps(
    network: nn.Module,
    card: ModelCard,
    lessons: Lessons,
    settings: FitSettings,
    device: torch.device,
    *,
    fresh: bool = False,
    token: CancelToken | None = None,
    stop: CancelToken | None = None,
) -> Generator[Event, None, Fitted]:
    """Train a copy of a network.

    Parameters
    ----------
    network : torch.nn.Module
        Left as it is.
    card : ModelCard
    lessons : Lessons
    settings : FitSettings
    device : torch.device
    fresh : bool
        The decoder is random: nothing is rehearsed, batch normalisation is measured
        first, and nothing is frozen unless the encoder was trained.
    token : CancelToken, optional
        Cancels: nothing is kept.
    stop : CancelToken, optional
        Stops: what was learned so far is kept.

    Yields
    ------
    Event
        Trained, Warned.

    Raises
    ------
    Cancelled
        If ``token`` was set.
    """
    token, stop = token or CancelToken(), stop or CancelToken()
    loop = _Loop(network, card, lessons, settings, device, fresh)
    began = time.perf_counter()
    planned, step = settings.steps or 0, 0
    while not planned or step < planned:
        token.raise_if_cancelled()
        if stop.cancelled:
            loop.end("stopped")
            break
        progress = step / planned if planned else 0.0
        loss = loop.step(step, progress)
        if loss is None:
            yield Warned(
                f"The loss was no longer a number at step {step + 1}; training stopped, and the "
                "weights before are kept. Use a lower learning rate."
            )
            break
        step += 1
        elapsed = time.perf_counter() - began
        if settings.steps is None and step >= _TIMED_STEPS:
            # Anew each time: later steps take longer, or shorter, than the first few.
            planned = max(step, int(step * settings.seconds / elapsed))
        score = loop.evaluate(step, planned) if planned else None
        left = elapsed / step * (planned - step) if planned else settings.seconds - elapsed
        yield Trained(step, planned, loss, score, max(0.0, left))
        loop.fitted.curve.append((step, loss, score))
        if lessons.watch is not None:
            lessons.watch(loop.keeper.shown(loop.average))
        if loop.has_ended or loop.is_late(elapsed):
            break
        if warning := loop.turn(step, planned) or loop.renew(step, planned):
            yield Warned(warning)
            if loop.has_ended:
                break
    fitted = loop.finish()
    fitted.steps, fitted.planned = step, planned or step
    fitted.seconds = time.perf_counter() - began
    return fitted


class _Loop:
    """The state of one training: network, teacher, averages, best."""

    def __init__(
        self,
        network: nn.Module,
        card: ModelCard,
        lessons: Lessons,
        settings: FitSettings,
        device: torch.device,
        fresh: bool,
    ) -> None:
        self.card, self.lessons, self.settings = card, lessons, settings
        self.device, self.fresh = device, fresh
        self.half_wide = is_quicker_in_bfloat16(device)
        self.network = copy.deepcopy(network).to(device).eval()
        if card.ndim == 2:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.network.requires_grad_(True)
        if fresh:
            self._calibrate()
        self.new_head = not fresh and bool(card.training.get(NEW_HEAD))
        known = not (fresh or self.new_head)
        self.teacher = None
        if known and (lessons.trust > 0 or lessons.rehearsal is not None):
            self.teacher = copy.deepcopy(self.network).requires_grad_(False)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        # A trained encoder under a random decoder is worth keeping.
        random = fresh and not card.training
        self.encoder = [] if random else encoder_parameters(self.network)
        self.optimiser = self._optimiser()
        self.fitted = Fitted({})
        self.keeper = Keeper(
            self.network, lessons.score, chooses=lessons.chooses, keeps=lessons.keeps,
            known=known, share=settings.share, patience=settings.patience,
        )  # fmt: skip
        self.evaluated = 0
        self.has_turned = self.has_ended = False

    def _optimiser(self) -> torch.optim.Optimizer:
        head = head_parameters(self.network) if self.new_head else []
        apart = {id(p) for p in [*self.encoder, *head]}
        outer = [p for p in self.network.parameters() if id(p) not in apart]
        groups: list[dict[str, Any]] = [{"params": outer, "share": 1.0}]
        if head:  # random among trained layers: it has to catch up
            groups.append({"params": head, "share": _NEW_HEAD_SHARE})
        if self.encoder:
            share = self.settings.encoder_share
            if not self.card.trained or self.card.training.get(NEW_HEAD):
                share = max(share, _LEARNING_SHARE)
            groups.append({"params": self.encoder, "share": share})
        if self.new_head:
            quicker = 1 + (_NEW_TASK - 1) * self.lessons.haste
            groups = [{**group, "share": quicker * group["share"]} for group in groups]
        return AdamW(groups, self.settings.rate, weight_decay=1e-4)

    def _calibrate(self) -> None:
        """Measure the statistics of random layers once; they stay as they are then."""
        norms = [m for m in self.network.modules() if isinstance(m, _NORMS)]
        if not norms:
            return
        momenta = [m.momentum for m in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
            norm.train()
        with torch.no_grad():
            for _ in range(3):
                self.network(
                    self._on_device(self.lessons.sampler.batch(self.lessons.batch).images)
                )
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()

    def _on_device(self, images: torch.Tensor) -> torch.Tensor:
        images = images.to(self.device)
        if self.card.ndim == 2:
            images = images.contiguous(memory_format=torch.channels_last)
        return images

    def step(self, step: int, progress: float) -> float | None:
        """Do one step; return the loss, or None if it is not a number."""
        settings = self.settings
        frozen = bool(self.encoder) and progress < settings.frozen_share
        for parameter in self.encoder:
            parameter.requires_grad_(not frozen)
        rate = settings.rate * min(1.0, (step + 1) / _WARM_UP)
        rate *= 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        batch = self.lessons.sampler.batch(self.lessons.batch)
        if not bool(batch.known.any()):
            self.fitted.skipped += 1
            return 0.0
        loss = self._loss(batch)
        if not bool(torch.isfinite(loss)):
            self.end("diverged")
            return None
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for p in self.network.parameters() if p.grad is not None], 2.0)
        self.optimiser.step()
        self._update_average(step)
        return float(loss.detach())

    def _loss(self, batch: Batch) -> torch.Tensor:
        kind, images = self.card.representation, self._on_device(batch.images)
        count = len(images)
        rehearsed = None
        if self.teacher is not None and self.lessons.rehearsal and self.settings.rehearse:
            rehearsed = self._on_device(self.lessons.rehearsal(self.settings.rehearse))
            images = torch.cat([images, rehearsed])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half_wide):
            logits = self.network(images)
        known = batch.known.to(self.device)
        own, lessons = logits[:count], self.lessons
        painted = as_painted(own, lessons.surplus, kind)
        loss = sparse_loss(painted, batch.values.to(self.device), known, kind)
        if lessons.trust > 0:
            own = as_painted(own, lessons.guess_surplus, kind)
            loss = loss + self._trusted(own, images[:count], known, batch)
        if rehearsed is not None and self.teacher is not None:
            with torch.no_grad():
                before = self.teacher(rehearsed)
            everywhere = torch.ones_like(before[:, 0], dtype=torch.bool)
            loss = loss + _REHEARSAL * rehearsal_loss(logits[count:], before, everywhere, kind)
        return loss

    def _trusted(
        self, logits: torch.Tensor, images: torch.Tensor, known: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        """Return the loss against what is said where nothing was painted."""
        kind, lessons = self.card.representation, self.lessons
        # Bent as its image is, a probability may be above 1 by its last digit.
        guess = None if batch.guess is None else batch.guess.to(self.device).clamp(0, 1)
        if self.teacher is None:
            if guess is None:
                return logits.new_zeros(())
            guess = guess if kind == "classes" else foreground_of(guess)
            unknown = ~known.any(1) & has_said(guess)
            return lessons.trust * guess_loss(logits[:, : guess.shape[1]], guess, unknown, kind)
        said, corrected = self._said(images, guess)
        unknown = ~known.any(1)
        unknown &= ~contradicted(said, batch.values.to(self.device), known, kind)
        near = known.flatten(1).any(1)  # also of crops from anywhere, where frames are small
        loss = logits.new_zeros(())
        for weight, n in ((lessons.trust, near), (lessons.trust_far, ~near)):
            loss = loss + weight * trust_loss(logits[n], said[n], unknown[n], kind, corrected[n])
        return loss

    @torch.no_grad()
    def _said(
        self, images: torch.Tensor, accepted: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the old model's word, corrected by what was accepted, and where it was."""
        assert self.teacher is not None
        logits: torch.Tensor = self.teacher(images).float()
        word = logits.softmax(1) if self.card.representation == "classes" else logits.sigmoid()
        return corrected_word(word, accepted, self.card.representation)

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        # A plain exponential average would remember the start for all of a short run.
        share = max(1 - self.settings.average, 1 / (step / 2 + 1))
        current = self.network.state_dict()
        for name, value in self.average.state_dict().items():
            if not value.is_floating_point():
                value.copy_(current[name])
            elif bool(torch.isfinite(current[name]).all()):
                value.lerp_(current[name], share)

    def evaluate(self, step: int, planned: int) -> float | None:
        """Score what was learned now and then, while there are strokes that it has not seen."""
        if self.has_turned:
            return None
        due = step * self.settings.evaluations // planned
        if due <= self.evaluated:
            return None
        self.evaluated = due
        score = self.keeper.look(self.average)
        if self.keeper.tired:
            self.end("early")
        return score

    def turn(self, step: int, planned: int) -> str:
        """After two thirds have the network judged, and learn from what judged it, too.

        Returns a warning if there is nothing to learn from any more.
        """
        judge = self.lessons.last_third
        if judge is None or self.has_turned or not 2 * planned <= 3 * step < 3 * planned:
            return ""
        self.has_turned = True
        return self._take(judge(self.keeper.shown(self.average)))

    def is_late(self, elapsed: float) -> bool:
        """Whether the limit of time has passed, which happens on a busy computer."""
        late = self.settings.steps is None and elapsed > _OVERTIME * self.settings.seconds
        if late:
            self.end("time")
        return late

    def renew(self, step: int, planned: int) -> str:
        """Take up what was painted meanwhile; return a warning if all was erased."""
        if self.lessons.refresh is None or step % max(1, (planned or step) // 20):
            return ""
        sampler = self.lessons.refresh()
        return self._take(sampler) if sampler is not None else ""

    def _take(self, sampler: CropSampler) -> str:
        if sampler.exercises:
            self.lessons.sampler = sampler
            return ""
        self.end("erased")
        return (
            "All annotations were erased while training; it stopped, and what was learned stays."
        )

    def end(self, why: str) -> None:
        """Note why training ends here."""
        self.has_ended, self.fitted.stopped = True, why

    def finish(self) -> Fitted:
        """Return the weights to keep."""
        self.fitted.weights = self.keeper.kept(self.average)
        self.fitted.share, self.fitted.judged_early = self.keeper.share, self.has_turned
        self.fitted.half_wide = self.half_wide
        return self.fitted
