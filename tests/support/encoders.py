"""Encoders that tests build on."""

from __future__ import annotations

LITE = "tu-tf_efficientnet_lite0"
TINY = "tu-test_efficientnet"
VIT = "tu-vit_small_patch16_224"
