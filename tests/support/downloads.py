"""A file to be downloaded by impatient tests."""

from __future__ import annotations

import hashlib
import random

from unet_studio.models.download import Limits

CONTENT = random.Random(0).randbytes(3_000_000)
HASH = hashlib.sha256(CONTENT).hexdigest()
# Impatient, so that tests are quick.
QUICK = Limits(connect_s=2, window_s=1, attempts=2, first_pause_s=0.05)


def left(target):
    return sorted(p.name for p in target.parent.iterdir()) if target.parent.exists() else []
