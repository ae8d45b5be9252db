"""Every registered architecture, on representative encoders: what all of them promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from unet_studio import predict
from unet_studio.models.card import ModelCard
from unet_studio.models.choices import ARCHITECTURES
from unet_studio.models.encoder_weights import load_encoder
from unet_studio.models.model import Model, build_network, model_from_file, save_model
from unet_studio.models.networks import EMBEDDED, NETWORKS
from unet_studio.models.probe import probe_network

RESNET, EFFICIENT, CONVNEXT = "tu-test_resnet", "tu-test_efficientnet", "tu-test_convnext"
TRANSFORMER = "tu-test_vit"
NNUNET = {"residual": False, "widths": [4, 8], "kernels": [[3, 3], [3, 3]],
          "strides": [[1, 1], [2, 2]], "counts": [1, 1], "decoder_counts": [1]}  # fmt: skip
# Architecture, options, dimensions, and whether tiles can reproduce the whole image.
CASES = [
    ("unet", {"widths": [4, 8]}, 2, True),
    ("unet", {"widths": [4, 8], "poolings": [[1, 2, 2]]}, 3, True),
    ("sd-unet", {"widths": [8, 16], "norm": "batch"}, 2, True),
    ("sd-unet", {"widths": [8, 16], "norm": "group"}, 2, False),
    ("sd-unet", {"widths": [8, 16], "norm": "batch"}, 3, True),
    ("plain-conv-unet", {"widths": [4, 8]}, 2, False),
    ("plain-conv-unet", {"widths": [4, 8], "norm": "batch"}, 2, True),
    ("residual-unet", {"widths": [4, 8], "norm": "batch"}, 2, True),
    (
        "residual-unet",
        {"widths": [4, 8], "strides": [[1, 1, 1], [1, 2, 2]], "kernels": [[1, 3, 3], [3, 3, 3]]},
        3,
        False,
    ),
    ("nnunet", {**NNUNET, "norm": "batch"}, 2, True),
    ("nnunet", {**NNUNET, "residual": True, "members": 2}, 2, False),
    ("zoo-unet2d", {"widths": [4, 8, 16]}, 2, True),
    ("hub-unet", {"features": 4}, 2, True),
    ("milesial-unet", {"widths": [4, 8, 8]}, 2, True),
    ("smp-unet", {"encoder": RESNET, "depth": 3, "decoder_channels": [16, 8, 8]}, 2, True),
    ("smp-unet", {"encoder": CONVNEXT, "depth": 3, "decoder_channels": [16, 8, 8]}, 2, None),
    ("smp-unetplusplus", {"encoder": RESNET, "depth": 3, "decoder_channels": [16, 8, 8]}, 2, True),
    ("smp-manet", {"encoder": RESNET, "depth": 3, "decoder_channels": [16, 8, 8]}, 2, False),
    ("smp-linknet", {"encoder": RESNET, "depth": 3}, 2, True),
    ("smp-fpn", {"encoder": RESNET}, 2, False),
    ("smp-pspnet", {"encoder": RESNET}, 2, False),
    ("smp-pan", {"encoder": RESNET}, 2, False),
    ("smp-deeplabv3", {"encoder": RESNET, "decoder_channels": 16}, 2, False),
    ("smp-deeplabv3plus", {"encoder": RESNET, "decoder_channels": 16}, 2, False),
    ("smp-upernet", {"encoder": EFFICIENT, "decoder_channels": 16}, 2, False),
    ("smp-segformer", {"encoder": EFFICIENT}, 2, None),
    ("smp-dpt", {"encoder": TRANSFORMER, "decoder_channels": 8}, 2, False),
]
cases = pytest.mark.parametrize(
    ("architecture", "options", "ndim", "exact"),
    CASES,
    ids=[f"{a}-{o.get('encoder', o.get('norm', ''))}-{n}d" for a, o, n, _ in CASES],
)


def card_of(architecture, options, ndim, **fields):
    values = {"name": "t", "in_channels": 2, "representation": "classes"} | fields
    values.setdefault("classes", ("back", "one", "two", "three"))
    return ModelCard(architecture=architecture, options=options, ndim=ndim, **values)


def built(card, seed=0):
    """A network with statistics as after training, so that nothing cancels by chance."""
    torch.manual_seed(seed)
    network = build_network(card).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network


def test_every_architecture_is_looked_at():
    networks = set(NETWORKS.names()) - EMBEDDED  # programs: tests/unit/models/zoo
    assert {case[0] for case in CASES} == networks
    foreign = {"hub-unet", "milesial-unet", "zoo-unet2d", "nnunet"}
    assert networks - set(ARCHITECTURES) == foreign, (
        "those are there for weights of others, not for new models"
    )
    solid = {case[0] for case in CASES if case[2] == 3}
    assert solid >= {"unet", "sd-unet", "residual-unet"}


@cases
def test_it_keeps_its_promises(architecture, options, ndim, exact, tmp_path):
    card = card_of(architecture, options, ndim)
    network = built(card)
    probe = probe_network(network, card)
    if exact is not None:
        assert probe.tile_invariant is exact
    if probe.tile_invariant:
        assert all(halo >= 2 for halo in probe.halos)
    card = card.model_copy(update=probe.card_fields())
    model = Model(card, network)

    # Odd sizes, as many classes as asked for, logits and not probabilities.
    shape = (2, 37, 53) if ndim == 2 else (2, 5, 21, 19)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    axes = "CYX" if ndim == 2 else "CZYX"
    first = predict(image, model, axes=axes, keep="logits", precision="float32").probabilities
    assert first.shape == (4, *shape[1:])
    assert np.isfinite(first).all()
    assert first.std() > 0

    # The file brings the same network back.
    again = model_from_file(save_model(model, tmp_path / "m.safetensors").path)
    assert again.card == card
    second = predict(image, again, axes=axes, keep="logits", precision="float32").probabilities
    np.testing.assert_array_equal(first, second)


def encoder_file(encoder, folder):
    """A file as timm publishes it: the encoder and its classifier, three input channels."""
    import timm

    torch.manual_seed(3)
    name = encoder.removeprefix("tu-")
    weights = timm.create_model(name, pretrained=False).state_dict()
    path = folder / f"{name}.safetensors"
    save_file({key: value.clone().contiguous() for key, value in weights.items()}, path)
    return path


encoders = pytest.mark.parametrize(
    ("architecture", "options"),
    [(a, o) for a, o, _, _ in CASES if a.startswith("smp-")],
    ids=[f"{a}-{o['encoder']}" for a, o, _, _ in CASES if a.startswith("smp-")],
)


@encoders
def test_trained_weights_give_the_same_features_whatever_the_channels(
    architecture, options, tmp_path
):
    """A grey image in all channels looks to the encoder as it did in red, green and blue."""
    channels = 2
    path = encoder_file(options["encoder"], tmp_path)
    features = {}
    grey = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    for count in (3, channels):
        network = built(card_of(architecture, options, 2, in_channels=count))
        load_encoder(network, options["encoder"], path)
        with torch.inference_mode():
            seen = network.encoder(grey.repeat(1, count, 1, 1))
            # A transformer returns its features and its class token.
            features[count] = seen[0] if isinstance(seen, tuple) else seen[1:]
    assert len(features[3]) >= 3
    for ours, theirs in zip(features[channels], features[3], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
