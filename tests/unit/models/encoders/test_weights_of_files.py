"""The way of trained weights from a file into a model, and of a model into a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from support.encoders import LITE, TINY
from unet_studio.errors import ModelError
from unet_studio.models.creating import NewModel, create_model
from unet_studio.models.encoder_weights import adapt_channels
from unet_studio.models.model import save_model
from unet_studio.models.presets import new_model

# -- first layers ---------------------------------------------------------------------


@pytest.mark.parametrize("channels", range(1, 9))
def test_an_adapted_first_layer_sees_grey_as_before(channels):
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    adapted = adapt_channels(weight, channels)
    assert adapted.shape == (4, channels, 3, 3)
    torch.testing.assert_close(adapted.sum(dim=1), weight.sum(dim=1))
    if channels == 3:
        assert torch.equal(adapted, weight)


# -- weights from a file ----------------------------------------------------------------


def test_F65_F66_weights_of_another_encoder_are_refused(tmp_path, tiny_weights):
    path = tmp_path / "w.safetensors"
    path.write_bytes(tiny_weights)
    with pytest.raises(ModelError, match=r"not those of the encoder tu-test_resnet: .+ missing"):
        new_model("tu-test_resnet", weights=path)
    with pytest.raises(ModelError, match="no encoder that trained weights"):
        new_model("unet-tiny", weights=path)
    with pytest.raises(ModelError, match="No such file.+Check the path"):
        new_model(TINY, weights=tmp_path / "gone.safetensors")


def test_S01_code_in_a_file_of_encoder_weights_is_not_run(tmp_path):
    import pickle

    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return (canary.write_text, ("run",))

    torch.save({"conv_stem.weight": Evil()}, tmp_path / "evil.pth", pickle_module=pickle)
    with pytest.raises(ModelError, match="evil.pth"):
        new_model(TINY, weights=tmp_path / "evil.pth")
    assert not canary.exists()


def test_F72_encoder_weights_that_are_not_numbers_are_refused(tmp_path):
    import timm

    weights = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    weights["conv_stem.weight"] = torch.full_like(weights["conv_stem.weight"], float("nan"))
    save_file({n: w.contiguous() for n, w in weights.items()}, tmp_path / "nan.safetensors")
    with pytest.raises(ModelError, match="NaN"):
        new_model(TINY, weights=tmp_path / "nan.safetensors")


def test_real_imagenet_weights_are_those_of_timm(shared_data, unmeasured):
    """EfficientNet-Lite0 from a file, against timm's own network with the same file."""
    import timm

    path = shared_data / "models/efficientnet_lite0_imagenet/tf_efficientnet_lite0_timm_keys.pth"
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True)
    state = torch.load(path, weights_only=True)
    wanted = {name.replace(".", "_"): value for name, value in state.items()}
    own = {name: wanted[name.replace(".", "_")] for name in reference.state_dict()}
    reference.load_state_dict(own)
    model = new_model(LITE, weights=path, in_channels=3)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs = reference.eval()(image)
        ours = model.network.encoder(image)
    for feature in theirs:
        same = [f for f in ours if f.shape == feature.shape]
        assert any(torch.allclose(f, feature, atol=1e-5) for f in same)
    assert model.card.normalisation.options["mean"] == [0.5, 0.5, 0.5]


# -- 3D from 2D ------------------------------------------------------------------------


def test_an_inflated_network_sees_equal_planes_as_the_flat_one_saw_one(tmp_path):
    """Away from the ends of the stack, where planes of zeros are added."""
    fields = {"options": {"widths": [4, 8, 8]}, "representation": "objects"}
    path = tmp_path / "flat.safetensors"
    flat = save_model(new_model("unet", in_channels=3, colour=True, **fields), path)
    solid = new_model(
        "unet", ndim=3, weights=f"inflate:{path}", in_channels=1, representation="objects"
    )
    assert solid.notes == ()
    assert solid.card.parent == flat.sha256
    assert solid.card.options == flat.card.options
    image = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plane = flat.network(image.repeat(1, 3, 1, 1))
        stack = solid.network(image.unsqueeze(2).repeat(1, 1, 64, 1, 1))
    assert (stack[:, :, 32] - plane).abs().max() < 1e-4 * plane.std()
    other = new_model("unet", ndim=3, weights=f"inflate:{path}", in_channels=1)
    (note,) = other.notes  # "binary" has one output
    assert "last layer is random" in note
    with pytest.raises(ModelError, match="only an axis can be added"):
        new_model("unet", ndim=3, weights=f"inflate:{path}", in_channels=2, options={
            "widths": [4, 8, 16]})  # fmt: skip


def test_only_a_plain_unet_is_inflated():
    with pytest.raises(ModelError, match="Only the plain U-Net"):
        new_model("residual-unet", ndim=3, weights="inflate:nuclei")


# -- files --------------------------------------------------------------------------------


def test_a_new_model_is_a_file_of_the_store_that_runs(tmp_path):
    from unet_studio import segment

    made = create_model("mine", NewModel("unet-tiny", classes=("cell",)))
    assert made.entry.path.is_file()
    assert made.entry.card.name == "mine"
    assert segment(np.eye(64, dtype=np.uint8) * 200, "mine").labels.shape == (64, 64)
    with pytest.raises(ModelError, match="already a model 'mine'"):
        create_model("mine", NewModel("unet-tiny"))
    output = tmp_path / "elsewhere.safetensors"
    create_model("other", NewModel("unet-tiny"), output=output)
    assert output.is_file()
