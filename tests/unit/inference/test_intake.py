"""Tiles reach a device as they were read, and become there what arrays become here."""

import numpy as np
import pytest
import torch

from unet_studio.images.normalisation import Scaling
from unet_studio.inference.channels import ChannelMap
from unet_studio.inference.intake import Intake
from unet_studio.inference.transfer import DirectTransfer

CPU = torch.device("cpu")
TYPES = ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def tiles(dtype, channels, shape=(9, 14)):
    rng = np.random.default_rng(0)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        values = rng.normal(100, 300, (2, channels, *shape)).astype(dtype)
        values[0, 0, 1, 2], values[1, 0, 3, 3], values[1, -1, 0, 0] = np.nan, np.inf, -np.inf
        return values
    if dtype.kind == "b":
        return rng.random((2, channels, *shape)) > 0.5
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (2, channels, *shape), dtype, endpoint=True)


def scaling(values, clip):
    finite = values[np.isfinite(values)].astype(np.float64)
    low, width = finite.min(), np.ptp(finite)
    channels = values.shape[1]
    offsets = tuple(float(low + 0.1 * c * width) for c in range(channels))
    return Scaling(offsets, tuple(float((1 + c) / width) for c in range(channels)), clip)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("clip", [None, (-0.1, 0.8)])
@pytest.mark.parametrize(
    ("channels", "repeat", "luma"),
    [(1, 1, False), (1, 3, False), (3, 1, False), (3, 1, True)],
    ids=["grey", "grey-into-colour", "channels", "colour-into-grey"],
)
def test_a_device_makes_of_tiles_what_arrays_become(dtype, clip, channels, repeat, luma):
    values = tiles(dtype, channels)
    channel_map = ChannelMap(tuple(range(channels)), repeat, luma)
    mixed = [channel_map.mix(block) for block in values]
    how = scaling(np.stack(mixed), clip)
    expected = np.stack([channel_map.expand(how.apply(block)) for block in mixed])
    intake = Intake(how, channel_map)
    for channels_last in (False, True):
        found = DirectTransfer(CPU).put(
            list(values),
            lambda raw, last=channels_last: intake.prepare(raw, torch.float32, channels_last=last),
        )
        order = torch.channels_last if channels_last else torch.contiguous_format
        assert found.is_contiguous(memory_format=order)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_huge_numbers_stay_finite():
    values = np.array([[[[1e300, -1e300, 0, np.inf]]]])
    found = Intake(Scaling((0.0,), (1e5,)), ChannelMap((0,))).prepare(
        torch.from_numpy(values), torch.float32, channels_last=False
    )
    assert torch.isfinite(found).all()
    assert found[0, 0, 0].tolist()[2:] == [0, 0]


def test_what_was_read_is_left_as_it_was():
    """A tile may be a view of the user's own array, which may be read-only."""
    for dtype in ("f4", "f8"):
        image = tiles(dtype, 1)[0]
        image.flags.writeable = False
        before = image.copy()
        intake = Intake(Scaling((3.0,), (2.0,), (-1, 1)), ChannelMap((0,)))
        DirectTransfer(CPU).put(
            [image], lambda raw, way=intake: way.prepare(raw, torch.float32, channels_last=True)
        )
        np.testing.assert_array_equal(image, before)
