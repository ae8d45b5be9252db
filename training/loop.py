"""The loop that the GPU training scripts share: schedule, averaged weights, checkpoints."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from schedule import EMA_DECAY, WARM_UP, learning_rate, save_atomically, update_average

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard
    from unet_studio.models.model import Model

# Of the peak rate, for a network that has learnt already.
CONTINUED_RATE = 0.5
_REPORT_EVERY = 200

Weights = dict[str, torch.Tensor]
Trainer = Callable[[argparse.Namespace], tuple[Weights, int]]
Writer = Callable[[Weights, int, argparse.Namespace], None]


@dataclass(frozen=True)
class Budget:
    """How long to train.

    Attributes
    ----------
    steps : int
    seconds : float or None
        Where given, the schedule follows the clock and ``steps`` is an upper limit: for a
        machine that is there for so long only. The record tells the steps that were made.
    peak_rate : float
    """

    steps: int
    seconds: float | None = None
    peak_rate: float = 2e-3

    def progress(self, step: int, began: float) -> float:
        """Return the part that is done, 0 to 1."""
        by_steps = step / self.steps
        if self.seconds is None:
            return by_steps
        return max(by_steps, (time.perf_counter() - began) / self.seconds)


def fit(
    net: torch.nn.Module,
    loss_of: Callable[[torch.nn.Module, float], torch.Tensor],
    budget: Budget,
    checkpoint: Path,
) -> tuple[Weights, int]:
    """Train with AdamW; return the averaged weights and the number of steps made.

    Parameters
    ----------
    net : torch.nn.Module
        On its device.
    loss_of : callable
        Draws a batch and returns the loss; takes the network and the progress, 0 to 1.
    checkpoint : Path
        Written about every half minute, for a look at what has been learnt so far, and
        for ``--write-only``.
    """
    average = {k: v.detach().clone() for k, v in net.state_dict().items()}
    optimiser = torch.optim.AdamW(net.parameters(), budget.peak_rate, weight_decay=1e-4)
    began = saved = time.perf_counter()
    running, step = torch.zeros((), device=next(net.parameters()).device), 0
    while (progress := budget.progress(step, began)) < 1:
        for group in optimiser.param_groups:
            # In steps of a fictitious run that ends when this one does.
            length = step / progress if progress > 0.01 else 20_000
            group["lr"] = learning_rate(step, max(int(length), 1), budget.peak_rate)
        loss = loss_of(net, progress)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        update_average(average, net, step)
        running.lerp_(loss.detach(), 1.0 if step == 0 else 0.01)
        step += 1
        if step % _REPORT_EVERY == 0:
            took = time.perf_counter() - began
            print(f"step {step} {progress:.1%} loss {running.item():.4f} "
                  f"{took / step:.4f} s/step", flush=True)  # fmt: skip
        if time.perf_counter() - saved > 30:
            save_atomically({"average": average, "step": step}, checkpoint)
            saved = time.perf_counter()
    save_atomically({"average": average, "step": step}, checkpoint)
    return {k: v.cpu().contiguous() for k, v in average.items()}, step


def halved(net: torch.nn.Module) -> torch.nn.Module:
    """Round the weights of convolutions to float16, as they are stored: half the file."""
    with torch.no_grad():
        for value in net.parameters():
            if value.ndim > 1:
                value.copy_(value.half().float())
    return net


def stored(net: torch.nn.Module) -> Weights:
    """Return the weights as they go into the file."""
    return {k: v.half() if v.ndim > 1 else v for k, v in net.state_dict().items()}


def write_trained(card: ModelCard, network: torch.nn.Module, output: Path) -> None:
    """Measure what a trained network sees, and write its model file."""
    from unet_studio.models.files import write_model_file
    from unet_studio.models.probe import probe_network

    card = card.model_copy(update=probe_network(network, card).card_fields())
    write_model_file(card, stored(network), output)
    print(f"{output}: {output.stat().st_size:,} bytes, {card.parameters:,} parameters")


def start_from(net: torch.nn.Module, args: argparse.Namespace) -> float:
    """Give a network the weights of ``--start``; return the factor of the learning rate."""
    if args.start is None:
        return 1.0
    net.load_state_dict(_started(args.start).network.state_dict())
    return CONTINUED_RATE


def _started(path: Path) -> Model:
    from unet_studio.models.model import load_model

    return load_model(path)


def history(
    script: str, args: argparse.Namespace, steps: int, batch: int, crop: int, rate: float
) -> dict:
    """Return what all training records hold."""
    if args.start is not None:
        rate *= CONTINUED_RATE
    record = {
        "script": f"training/{script}",
        "steps": steps,
        "batch": batch,
        "crop": crop,
        "seed": args.seed,
        "optimiser": f"AdamW, peak rate {rate:g}, warm-up {WARM_UP}, cosine decay",
        "average": EMA_DECAY,
        "torch": torch.__version__,
    }
    if args.start is not None:
        before = _started(args.start)
        record["started_from"] = {"sha256": before.sha256, **before.card.training}
    return record


def parser(description: str, output: Path, steps: int) -> argparse.ArgumentParser:
    """Return the command line that all scripts have."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--data", type=Path, default=Path("../shared/data"))
    made.add_argument("--work", type=Path, default=Path("training/runs"), help="checkpoints")
    made.add_argument("--output", type=Path, default=output)
    made.add_argument("--steps", type=int, default=steps)
    made.add_argument("--seconds", type=float, help="end after so long, whatever --steps says")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--start", type=Path, help="go on from this model file's weights")
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument(
        "--write-only", action="store_true", help="write the model of the last checkpoint"
    )
    return made


def run(args: argparse.Namespace, checkpoint: str, train: Trainer, write: Writer) -> None:
    """Train and write the model file, or write that of the last checkpoint."""
    if args.write_only:
        state = torch.load(args.work / checkpoint, weights_only=True, map_location="cpu")
        write(state["average"], state["step"], args)
    else:
        args.work.mkdir(parents=True, exist_ok=True)
        write(*train(args), args)
