"""What tiles may cost in accuracy: quality, precision, constant tiles."""

import numpy as np
import pytest

from unet_studio.images.volume import VolumeInfo, as_volume
from unet_studio.inference.plan import resolve
from unet_studio.models.card import ModelCard
from unet_studio.models.folding import fold_batch_norms
from unet_studio.models.model import load_model
from unet_studio.models.presets import new_model
from unet_studio.models.seams import seam_flips
from unet_studio.pipeline import predict
from unet_studio.recipe import Recipe, Tiling

CARD = ModelCard(
    name="far", architecture="unet", in_channels=1, representation="binary", stride=16, halo=256,
    bytes_per_pixel=400, seam_flips=((32, 8.0), (64, 1.0), (128, 0.05), (192, 0.01), (256, 0.0)),
)  # fmt: skip
BIG = as_volume(np.broadcast_to(np.uint8(0), (4096, 4096)), "YX").info


def plan(quality, card=CARD, info: VolumeInfo = BIG, **tiling):
    return resolve(Recipe(model="-", tiling=Tiling(quality=quality, **tiling)), card, info)


def test_halo_follows_the_quality():
    exact, balanced, fast = (plan(q) for q in ("exact", "balanced", "fast"))
    assert exact.halo == 256
    assert exact.expected_flips == 0
    assert balanced.halo == 128
    assert 0 < balanced.expected_flips <= 1e-4
    assert fast.halo == 64
    assert balanced.expected_flips < fast.expected_flips <= 1e-3
    pixels = [np.prod(p.tile_shape) * p.tile_count for p in (exact, balanced, fast)]
    assert pixels[0] > pixels[1] > pixels[2]


def test_smaller_tiles_have_more_seams_and_so_get_more_halo():
    assert plan("balanced", tile=640).halo > plan("balanced").halo


def test_a_card_that_was_not_measured_stays_exact():
    assert plan("fast", CARD.model_copy(update={"seam_flips": ()})).halo == 256


def test_work_of_exact_tiles_is_bounded():
    """The issue's limit for a network that sees 288 px far, on 4096 x 4096 pixels."""
    resnet = CARD.model_copy(update={"halo": 288, "stride": 32, "bytes_per_pixel": 386})
    exact = plan("exact", resnet)
    assert np.prod(exact.tile_shape) * exact.tile_count <= 1.45 * 4096**2


def test_flips_fall_with_the_halo_and_end_at_none():
    model = new_model("unet-tiny", seed=3)
    flips = seam_flips(model.network, 1, (16, 16), model.card.halo)
    assert flips == model.card.seam_flips
    halos, shares = zip(*flips, strict=True)
    assert list(halos) == sorted(halos)
    assert list(shares) == sorted(shares, reverse=True)
    assert halos[-1] == model.card.halo
    assert shares[-1] == 0 < shares[0]


def test_measured_flips_stay_below_what_was_forecast(shared_data):
    """On a real image, which the probe has never seen."""
    from unet_studio.images.readers import read_image

    paths = sorted((shared_data / "dsb2018_fluo" / "train" / "images").glob("*.png"))
    tiles = [read_image(p).array[:256, :256] for p in paths[:40]]
    tiles = [t for t in tiles if t.shape == (256, 256)][:16]
    image = np.block([[np.asarray(t) for t in tiles[i : i + 4]] for i in range(0, 16, 4)])
    model = load_model("nuclei")
    whole = predict(image, model, precision="float32", tiling={"tile": 2048}).probabilities[0]
    for quality in ("fast", "balanced"):
        options = {"quality": quality, "tile": 512}
        result = predict(image, model, precision="float32", tiling=options)
        assert result.record["tiles"]["count"] > 1
        flips = ((result.probabilities[0] > 0.5) != (whole > 0.5)).mean()
        assert flips <= {"fast": 1e-3, "balanced": 1e-4}[quality]
        assert result.record["tiles"]["expected_flips"] is not None


def test_half_precision_is_close_and_recorded():
    model = load_model("nuclei")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (256, 256)).astype(np.uint8)
    full = predict(image, model, precision="float32")
    half = predict(image, model, precision="bfloat16")
    assert (full.record["precision"], half.record["precision"]) == ("float32", "bfloat16")
    difference = np.abs(full.probabilities.astype(float) - half.probabilities)
    assert 0 < difference.max()
    assert difference.mean() < 0.01


@pytest.mark.parametrize("preset", ["unet-tiny", "resnet18"])
def test_folding_changes_nothing_but_the_number_of_layers(preset):
    import torch

    model = new_model(preset, in_channels=2)
    norms = [m for m in model.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    generator = torch.Generator().manual_seed(0)
    for norm in norms:
        norm.running_mean.normal_(0, 0.3, generator=generator)
        norm.running_var.uniform_(0.5, 2.0, generator=generator)
    image = torch.rand(1, 2, 64, 64, generator=generator)
    folded = fold_batch_norms(model.network, image)
    assert len(norms) > 10
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    other = torch.rand(1, 2, 96, 64, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(folded(other), model.network(other), rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_used_twice_is_not_folded():
    import torch

    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 1, 3, padding=1)
            self.norm = torch.nn.BatchNorm2d(1)

        def forward(self, x):
            return self.norm(self.conv(self.conv(x)))

    network = Twice().eval()
    network.norm.running_var.fill_(4.0)
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(fold_batch_norms(network, image)(image), network(image))


def test_a_repeated_constant_tile_is_computed_once(monkeypatch):
    """Empty parts of a slide cost next to nothing, and give exactly what they would."""
    from unet_studio.inference.executor import Executor

    image = np.zeros((1000, 1000), np.uint8)
    image[:200, :200] = np.random.default_rng(0).integers(0, 255, (200, 200))
    model = new_model("unet-tiny", representation="objects")
    runs = []
    original = Executor._forward

    def count(self, blocks, keeps):
        runs.append(len(blocks))
        return original(self, blocks, keeps)

    monkeypatch.setattr(Executor, "_forward", count)
    tiled = predict(image, model, precision="float32", tiling={"tile": 304})
    assert tiled.record["tiles"]["count"] > 50
    assert sum(runs) < 20
    whole = predict(image, model, precision="float32", tiling={"tile": 2048})
    np.testing.assert_allclose(
        tiled.probabilities.astype(float), whole.probabilities.astype(float), atol=2e-3
    )
