"""Encoders that tests build on, and a hub that holds weights of one."""

from __future__ import annotations

LITE = "tu-tf_efficientnet_lite0"
TINY = "tu-test_efficientnet"
VIT = "tu-vit_small_patch16_224"


def published_weights() -> bytes:
    """Return a file of weights of :data:`TINY` as timm publishes it."""
    import timm
    import torch
    from safetensors.torch import save

    torch.manual_seed(1)
    weights = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    return save({name: value.contiguous() for name, value in weights.items()})


def make_hub(web, monkeypatch, content: bytes):
    """Let a web server be the hub that holds the weights of :data:`TINY`, at ``web.path``."""
    from unet_studio.models.encoders import find_encoder

    monkeypatch.setenv("HF_ENDPOINT", web.url("/hub"))
    weights = find_encoder(TINY).find_weights("imagenet")
    path = f"/hub/{weights.repository}/resolve/{weights.revision}/model.safetensors"
    web.pages[path] = web.page(content)
    web.weights, web.path = weights, path
    return web
