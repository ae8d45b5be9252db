"""The image changes under the clicks."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio.clicks.session import ClickSession
from unet_studio.errors import ClickError


def test_new_pixels_of_the_image_are_seen_and_another_shape_is_refused(blobs, three_disks):
    image, truth = three_disks
    session = ClickSession(image, blobs)
    assert session.click((140, 90)).area
    session.renew_image(np.roll(image, 30, axis=1))
    assert session.proposal.area, "what was found stays"
    session.reset()
    assert session.click((140, 120)).holds((140, 140))
    with pytest.raises(ClickError, match=r"shape \(199, 240\).*Begin another session"):
        session.renew_image(image[1:])
    assert session.canvas.shape == truth.shape
