"""Plans: what a run will do, known before torch is imported."""

import importlib.machinery
import math
import subprocess
import sys
import types

import numpy as np
import pytest

from unet_studio.errors import AxesError, RecipeError
from unet_studio.images.volume import as_volume
from unet_studio.inference import forecast as forecasting
from unet_studio.inference import plan as planning
from unet_studio.inference.channels import map_channels
from unet_studio.inference.forecast import OBJECTS_BLOCK_PIXELS
from unet_studio.inference.plan import resolve
from unet_studio.inference.tiling import fit_edges
from unet_studio.models.card import ModelCard
from unet_studio.objects import frames
from unet_studio.recipe import ObjectsMethod, Recipe, Tiling

GREY = ModelCard(
    name="grey", architecture="unet", in_channels=1, representation="objects", halo=96,
    bytes_per_pixel=400, parameters=2_000_000,
)  # fmt: skip
COLOUR = GREY.model_copy(update={"name": "colour", "in_channels": 3, "colour": True})
TWO = GREY.model_copy(update={"name": "two", "in_channels": 2})
SOLID = GREY.model_copy(update={"name": "solid", "ndim": 3})


def info(shape, axes, **kwargs):
    return as_volume(np.zeros(shape, np.uint8), axes, name="img", **kwargs).info


def test_plan_of_a_stack():
    plan = resolve(Recipe(model="grey"), GREY, info((5, 7, 300, 400), "TZYX"))
    assert plan.frames == 35
    assert plan.tile_count == 35
    assert plan.tile_shape == (304, 400)
    assert plan.output_shape == (5, 7, 300, 400)
    assert "35 tiles of 304 × 400 px" in plan.summary()


def test_labels_keep_the_order_of_the_image_without_channels():
    plan = resolve(Recipe(model="colour"), COLOUR, info((64, 50, 3), "YXC", rgb=True))
    assert plan.output_axes.names == "YX"
    assert plan.output_shape == (64, 50)


def test_tiles_shrink_with_free_memory(monkeypatch):
    volume = info((9000, 9000), "YX")
    counts = []
    for free in (2**34, 2**31, 2**30):
        monkeypatch.setattr(planning, "free_memory", lambda device, free=free: free)
        counts.append(resolve(Recipe(model="grey"), GREY, volume).tile_count)
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_a_large_plane_leaves_room_for_what_grows_with_it(monkeypatch):
    """Rows of chunks and long tables are in memory, too; only on a GPU not beside the tile."""
    monkeypatch.setattr(planning, "free_memory", lambda device: 2**36)

    def area(edge, card=GREY, **options):
        plan = resolve(Recipe(model="grey", **options), card, info((edge, edge), "YX"))
        return math.prod(plan.tiles.tile_shape)

    near = GREY.model_copy(update={"halo": 32})
    far = GREY.model_copy(update={"halo": 288})
    for device in ("cpu", "cuda"):
        monkeypatch.setattr(planning, "planned_device", lambda recipe, device=device: device)
        large, small = area(16_384, near), area(8192, near)
        assert (large * near.bytes_per_pixel <= 1.4 * 2**30) == (device == "cpu")
        assert small * near.bytes_per_pixel > 1.5 * 2**30
    monkeypatch.undo()
    monkeypatch.setattr(planning, "free_memory", lambda device: 2**36)
    hungry = GREY.model_copy(update={"bytes_per_pixel": 1000})
    kept = (area(16_384, hungry) ** 0.5 - 2 * 96) ** 2
    assert area(16_384, hungry) <= 1.3 * kept, "halos do not become the work"
    assert area(16_384, far) >= area(8192, far), "seen as far, they need large tiles"


def test_too_little_memory_is_said_before_the_run(monkeypatch):
    monkeypatch.setattr(planning, "free_memory", lambda device: 2**28)
    plan = resolve(Recipe(model="grey"), GREY, info((9000, 9000), "YX"))
    assert any("256.0 MiB are free" in w for w in plan.warnings)
    assert any("go through the disk" in w for w in plan.warnings)
    assert plan.needs_streaming


def test_what_goes_through_the_disk_already_is_not_sent_there(monkeypatch):
    monkeypatch.setattr(planning, "free_memory", lambda device: 2**24)
    plan = resolve(Recipe(model="grey"), GREY, info((9000, 9000), "YX"), streamed=True)
    assert any("smaller tiles" in w for w in plan.warnings)
    assert not any("through the disk" in w for w in plan.warnings)


def test_forecast_counts_what_is_kept():
    small = resolve(Recipe(model="grey"), GREY, info((1, 2000, 2000), "ZYX"))
    large = resolve(Recipe(model="grey"), GREY, info((50, 2000, 2000), "ZYX"))
    kept = 49 * 2000 * 2000 * 3 * 2  # three channels of float16
    assert large.memory_bytes - small.memory_bytes >= kept


@pytest.mark.parametrize(
    ("card", "shape", "high"), [(GREY, (512, 992), 256), (SOLID, (64, 256, 128), 64 * 256)]
)
def test_forecast_counts_the_chunks_that_wait_for_the_next_tiles(card, shape, high, monkeypatch):
    monkeypatch.setattr(planning, "free_memory", lambda device: 2**40)
    volume = info(shape, "ZYX"[-len(shape) :])

    def peak():
        recipe = Recipe(model="grey", device="cpu", tiling=Tiling(halo=0))
        return resolve(recipe, card, volume, streamed=True).memory_bytes

    counted = peak()
    monkeypatch.setattr(forecasting, "MOST_GATHERED_BYTES", 0)
    assert counted - peak() == high * shape[-1] * card.out_channels * 2


def test_forecast_of_a_large_frame_is_of_the_blocks_that_its_objects_are_made_in():
    recipe = Recipe(model="grey", tiling=Tiling(tile=512))
    plans = [resolve(recipe, GREY, info((edge, edge), "YX")) for edge in (4096, 8192)]
    more = plans[1].memory_bytes - plans[0].memory_bytes
    kept = (8192**2 - 4096**2) * (3 * 2 + 4)  # three channels of float16, and labels
    assert kept <= more <= 1.2 * kept
    assert OBJECTS_BLOCK_PIXELS == frames._AT_ONCE * frames.BLOCK_PIXELS


def test_forecast_of_what_looks_at_a_whole_frame_is_of_all_of_it():
    largest = ObjectsMethod(method="components", options={"keep_largest": True})
    volume = info((8192, 8192), "YX")
    usual, whole = (
        resolve(Recipe(model="grey", tiling=Tiling(tile=512), objects=o), GREY, volume)
        for o in (largest.model_copy(update={"options": {}}), largest)
    )
    assert whole.memory_bytes > usual.memory_bytes + 8192**2 * 20


def test_networks_that_tiles_can_not_reproduce_say_so():
    card = GREY.model_copy(update={"tile_invariant": False, "halo": None, "patch": 128})
    plan = resolve(Recipe(model="grey"), card, info((700, 700), "YX"))
    assert plan.tiles.blend
    assert plan.tile_shape == (128, 128)
    assert any("blended" in w for w in plan.warnings)


def test_a_tile_that_can_not_work_is_refused():
    recipe = Recipe(model="grey", tiling=Tiling(tile=128))
    with pytest.raises(RecipeError, match="at least 208"):
        resolve(recipe, GREY, info((700, 700), "YX"))


def test_a_flat_image_is_refused_by_a_3d_model():
    with pytest.raises(AxesError, match="no depth axis. Choose a 2D model"):
        resolve(Recipe(model="solid"), SOLID, info((70, 70), "YX"))


CHANNELS = [
    # card, shape, axes, rgb, chosen -> channels, repeat, luma
    (GREY, (50, 50), "YX", False, None, ((0,), 1, False)),
    (GREY, (50, 50, 3), "YXC", True, None, ((0, 1, 2), 1, True)),
    (GREY, (50, 50, 4), "YXC", True, None, ((0, 1, 2), 1, True)),
    (GREY, (4, 50, 50), "CYX", False, (2,), ((2,), 1, False)),
    (COLOUR, (50, 50), "YX", False, None, ((0,), 3, False)),
    (COLOUR, (50, 50, 4), "YXC", True, None, ((0, 1, 2), 1, False)),
    (COLOUR, (4, 50, 50), "CYX", False, (3,), ((3,), 3, False)),
    (COLOUR, (4, 50, 50), "CYX", False, (3, 0, 1), ((3, 0, 1), 1, False)),
    (TWO, (2, 50, 50), "CYX", False, None, ((0, 1), 1, False)),
    (TWO, (3, 50, 50), "CYX", False, (2, 0), ((2, 0), 1, False)),
]


@pytest.mark.parametrize(("card", "shape", "axes", "rgb", "chosen", "expected"), CHANNELS)
def test_channels_that_fit(card, shape, axes, rgb, chosen, expected):
    mapped = map_channels(chosen, card, info(shape, axes, rgb=rgb))
    assert (mapped.channels, mapped.repeat, mapped.luma) == expected


@pytest.mark.parametrize(
    ("card", "shape", "axes", "chosen", "message"),
    [
        (GREY, (4, 50, 50), "CYX", None, "has 4 channels, the model 'grey' takes 1. Choose which"),
        (COLOUR, (3, 50, 50), "CYX", None, "3 channels.*Choose which"),
        (TWO, (50, 50), "YX", None, "has 1 channel, .* takes 2. Choose another model"),
        (GREY, (4, 50, 50), "CYX", (4,), "no channel 4. Choose .* 0 to 3"),
        (GREY, (4, 50, 50), "CYX", (0, 1), "2 channels were chosen"),
    ],
)
def test_channels_that_do_not_fit_are_asked_for(card, shape, axes, chosen, message):
    with pytest.raises(AxesError, match=message):
        map_channels(chosen, card, info(shape, axes))


def test_planning_does_not_import_torch():
    code = (
        "import sys, numpy as np; from unet_studio.images.volume import as_volume;"
        "from unet_studio.inference.plan import resolve; from unet_studio.recipe import Recipe;"
        "from unet_studio.models.card import ModelCard;"
        "c = ModelCard(name='g', architecture='unet', in_channels=1, representation='binary');"
        "resolve(Recipe(model='g'), c, as_volume(np.zeros((9, 9))).info).summary();"
        "print([m for m in ('torch', 'napari', 'qtpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_plan_is_made_while_another_thread_is_importing_torch(monkeypatch):
    half = types.ModuleType("torch")  # has no attribute "cuda" yet
    half.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    half.__spec__._initializing = True
    monkeypatch.setitem(sys.modules, "torch", half)
    plan = resolve(Recipe(model="grey", device="cuda"), GREY, info((64, 64), "YX"))
    assert plan.tile_count == 1
    assert plan.device_bytes > 0


def test_a_thin_stack_gets_wide_tiles():
    edges = fit_edges((12, 900, 900), 16 * 400 * 400, 16, 48, 512)
    assert edges[0] == 16
    assert edges[1] == edges[2] == 400


def test_three_dimensional_tiles_respect_the_budget(monkeypatch):
    monkeypatch.setattr(planning, "free_memory", lambda device: 2 * 2**30)
    card = SOLID.model_copy(update={"halo": 32, "bytes_per_pixel": 200})
    plan = resolve(Recipe(model="solid"), card, info((400, 400, 400), "ZYX"))
    assert np.prod(plan.tile_shape) * 200 <= 0.36 * 2 * 2**30


def test_memory_of_the_gpu_and_of_the_computer_are_kept_apart(monkeypatch):
    monkeypatch.setattr(planning, "planned_device", lambda recipe: "cuda")
    monkeypatch.setattr(
        planning, "free_memory", lambda device: 8 * 2**30 if device == "cuda" else 2**40
    )
    plan = resolve(Recipe(model="grey"), GREY, info((300, 2048, 2048), "TYX"))
    assert plan.memory_bytes > 8 * 2**30
    assert 0 < plan.device_bytes < 8 * 2**30
    assert plan.warnings == ()
    assert "on the GPU" in plan.summary()


@pytest.mark.parametrize("name", ["warp", "cuda:", "cuda:x", "xpu", "CPU"])
def test_devices_that_do_not_exist_are_refused_before_the_run(name):
    with pytest.raises(RecipeError, match="no device called"):
        resolve(Recipe(model="grey", device=name), GREY, info((50, 50), "YX"))


def test_a_gpu_gets_no_more_at_once_than_fills_it(monkeypatch):
    """Or nothing would be left to be copied while it computes."""
    monkeypatch.setattr(planning, "free_memory", lambda _device: 80 * 2**30)
    card = GREY
    volume = as_volume(np.zeros((8192, 8192), np.uint8), "YX")
    large = resolve(Recipe(model="-", device="cuda"), card, volume.info)
    assert large.batch == 1
    small = resolve(Recipe(model="-", device="cuda", tiling=Tiling(tile=256)), card, volume.info)
    assert small.batch == 16
