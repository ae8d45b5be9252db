"""The catalogue of encoders, and the way of trained weights into a model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from unet_studio.errors import DownloadError, ModelError
from unet_studio.models.card import ModelCard
from unet_studio.models.choices import ARCHITECTURES, PRESETS, choose
from unet_studio.models.creating import NewModel, create_model
from unet_studio.models.encoder_files import encoders_folder, offer_weights, own_path
from unet_studio.models.encoder_weights import adapt_channels
from unet_studio.models.encoders import (
    default_encoder,
    families,
    find_encoder,
    list_encoders,
    preset_size,
    search_encoders,
)
from unet_studio.models.model import build_network, save_model, shapes_only
from unet_studio.models.presets import new_model

LITE = "tu-tf_efficientnet_lite0"
TINY = "tu-test_efficientnet"
VIT = "tu-vit_small_patch16_224"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def unmeasured(monkeypatch):
    """Leave out the probe, which takes seconds; tests of architectures run it."""
    import unet_studio.models.presets as module

    class Nothing:
        def card_fields(self):
            return {}

    monkeypatch.setattr(module, "probe_network", lambda network, card: Nothing())


@pytest.fixture
def tiny_weights(unmeasured):
    """The bytes of a file as timm publishes it."""
    import timm
    from safetensors.torch import save

    torch.manual_seed(1)
    weights = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    return save({name: value.contiguous() for name, value in weights.items()})


@pytest.fixture
def hub(web, monkeypatch, tiny_weights):
    """A hub on this computer that holds the weights of the tiny encoder."""
    monkeypatch.setenv("HF_ENDPOINT", web.url("/hub"))
    weights = find_encoder(TINY).find_weights("imagenet")
    path = f"/hub/{weights.repository}/resolve/{weights.revision}/model.safetensors"
    web.pages[path] = web.page(tiny_weights)
    web.weights, web.path = weights, path
    return web


# -- the catalogue ------------------------------------------------------------------


def test_the_catalogue_is_large_and_every_entry_is_whole():
    encoders = list_encoders()
    assert len(encoders) >= 800
    assert sum(len(e.weights) for e in encoders) > 1200
    assert len({e.name for e in encoders}) == len(encoders)
    for encoder in encoders:
        assert encoder.parameters > 50_000, encoder.name
        assert encoder.bytes_per_pixel > 50, encoder.name
        assert min(encoder.networks.values()) > encoder.parameters
        assert ("smp-dpt" in encoder.networks) != ("smp-unet" in encoder.networks)
        for weights in encoder.weights:
            assert weights.licence
            assert "/" in weights.repository
            assert len(weights.mean) == len(weights.std) == 3


def test_the_table_says_what_is_built():
    """So that an update of timm or segmentation-models-pytorch can not make it wrong unseen."""
    for name in (
        "resnet18", "timm-tf_efficientnet_lite0", "mit_b0", LITE, "tu-convnext_tiny", VIT,
    ):  # fmt: skip
        entry, architecture = find_encoder(name), choose(name)[0]
        card = ModelCard(
            name="t", architecture=architecture, options={"encoder": name}, in_channels=3,
            representation="binary",
        )  # fmt: skip
        with shapes_only():
            network = build_network(card)
        assert sum(p.numel() for p in network.parameters()) == entry.networks[architecture]
        assert sum(p.numel() for p in network.encoder.parameters()) == entry.parameters


def built_shapes(encoder, channels):
    """A network on an encoder, without memory for its weights."""
    architecture = choose(encoder.name)[0]
    card = ModelCard(
        name="t", architecture=architecture, options={"encoder": encoder.name},
        in_channels=channels, representation="binary",
    )  # fmt: skip
    with shapes_only():
        return build_network(card), encoder.networks[architecture]


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_smallest_encoder_of_every_family_of_smp_can_be_built(channels):
    """Any number of channels; timm's own families are among the slow tests."""
    own = [e for e in list_encoders() if not e.name.startswith("tu-")]
    smallest = {}
    for encoder in sorted(own, key=lambda e: e.parameters):
        smallest.setdefault(encoder.family, encoder)
    assert len(smallest) >= 13
    for encoder in smallest.values():
        network, parameters = built_shapes(encoder, channels)
        found = sum(p.numel() for p in network.parameters())
        assert (found == parameters) == (channels == 3), encoder.name


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_encoder_that_is_offered_can_be_built():
    for number, encoder in enumerate(list_encoders()):
        network, _ = built_shapes(encoder, (3, 1, 5)[number % 3])
        if number % 3 == 0:
            found = sum(p.numel() for p in network.encoder.parameters())
            assert found == encoder.parameters, encoder.name


def test_the_sizes_of_presets_are_those_of_the_networks():
    for about in ARCHITECTURES.values():
        for preset in about.presets:
            for ndim in about.dimensions:
                architecture, options = PRESETS[preset]
                card = ModelCard(
                    name="t", architecture=architecture, options=options, in_channels=1,
                    ndim=ndim, representation="binary",
                )  # fmt: skip
                with shapes_only():
                    network = build_network(card)
                count = sum(p.numel() for p in network.parameters())
                assert preset_size(preset, ndim).parameters == count, preset


def test_families_and_search():
    assert families()[:2] == ("ResNet", "EfficientNet")
    resnets = [e.name for e in search_encoders(family="resnet")]
    assert resnets[:5] == ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
    assert LITE in {e.name for e in search_encoders("lite0 EFFICIENTNET")}
    assert search_encoders("no such encoder") == ()
    with pytest.raises(ModelError, match="Did you mean"):
        find_encoder("tu-resnet5")
    with pytest.raises(ModelError, match="Known: random, imagenet"):
        find_encoder("resnet18").find_weights("moon")


@pytest.mark.parametrize(
    ("preset", "ndim", "message"),
    [
        ("smp-fpn", 3, "two-dimensional. In 3D there are: unet"),
        ("unet/resnet18", 2, "has no encoder to choose"),
        ("resnet19", 2, "There is no preset 'resnet19'"),
        ("smp-linknet/resnet19", 2, "no encoder called 'resnet19'"),
    ],
)
def test_what_does_not_exist_is_refused(preset, ndim, message):
    with pytest.raises(ModelError, match=message):
        new_model(preset, ndim=ndim)


def test_an_encoder_alone_is_a_unet_on_it():
    assert choose("resnet50") == ("smp-unet", {"encoder": "resnet50"})
    assert choose("smp-fpn/resnet50") == ("smp-fpn", {"encoder": "resnet50"})
    assert choose(VIT) == ("smp-dpt", {"encoder": VIT}), "a transformer has no pyramid"


def test_transformers_go_with_dpt_and_others_with_all_else():
    assert find_encoder(default_encoder("smp-dpt")).fits("smp-dpt")
    assert not find_encoder(VIT).fits("smp-unet")
    assert find_encoder(LITE).fits("smp-fpn")
    assert not find_encoder(LITE).fits("smp-dpt")
    assert "ResNet" not in families("smp-dpt")
    assert len([e for e in list_encoders() if e.fits("smp-dpt")]) >= 100
    with pytest.raises(ModelError, match="smp-dpt for vision transformers"):
        new_model(f"smp-unet/{VIT}")
    with pytest.raises(ModelError, match="DPT can not be built"):
        new_model("smp-dpt/resnet18")
    with pytest.raises(ModelError, match="patches of 14 pixels"):
        new_model("smp-dpt/tu-vit_small_patch14_dinov2")


# -- first layers ---------------------------------------------------------------------


@pytest.mark.parametrize("channels", range(1, 9))
def test_an_adapted_first_layer_sees_grey_as_before(channels):
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    adapted = adapt_channels(weight, channels)
    assert adapted.shape == (4, channels, 3, 3)
    torch.testing.assert_close(adapted.sum(dim=1), weight.sum(dim=1))
    if channels == 3:
        assert torch.equal(adapted, weight)


# -- weights from a hub ----------------------------------------------------------------


def test_nothing_is_downloaded_unasked(hub):
    with pytest.raises(ModelError, match=r"nothing is downloaded unasked.*--download"):
        new_model(TINY, weights="imagenet")
    assert hub.requests == []


def test_weights_are_fetched_once_used_and_recorded(hub, tiny_weights):
    model = new_model(TINY, weights="imagenet", in_channels=3, download=True)
    assert hub.paths() == [hub.path]
    assert own_path(hub.weights).read_bytes() == tiny_weights
    card = model.card
    assert card.normalisation.method == "pretrained"
    assert card.normalisation.options["mean"] == list(hub.weights.mean)
    assert card.licence == f"encoder: {hub.weights.licence}"
    assert card.training["encoder_weights"].startswith(hub.weights.repository)
    assert len(card.training["encoder_sha256"]) == 64
    # Now it is here: no permission and no network are needed.
    again = new_model(TINY, weights="imagenet", in_channels=3)
    assert len(hub.requests) == 1
    for name, value in model.network.encoder.state_dict().items():
        assert torch.equal(value, again.network.encoder.state_dict()[name])
    random = new_model(TINY, in_channels=3)
    assert not torch.equal(
        random.network.encoder.model.conv_stem.weight, model.network.encoder.model.conv_stem.weight
    )


def test_F64_encoder_weights_that_changed_since_their_first_use_are_refused(hub, tiny_weights):
    new_model(TINY, weights="imagenet", download=True)
    changed = bytearray(tiny_weights)
    changed[-1] ^= 1
    own_path(hub.weights).write_bytes(changed)
    with pytest.raises(ModelError, match="not those that were used before"):
        new_model(TINY, weights="imagenet")


def test_a_damaged_file_is_named_and_not_remembered(hub, tiny_weights):
    own = own_path(hub.weights)
    own.parent.mkdir(parents=True)
    own.write_bytes(tiny_weights[:-1000])
    with pytest.raises(ModelError, match=r"can not be|damaged"):
        new_model(TINY, weights="imagenet")
    own.write_bytes(tiny_weights)
    new_model(TINY, weights="imagenet")


def test_F76_without_a_network_it_is_told_which_file_to_put_where(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE") as caught:
        new_model(TINY, weights="imagenet", download=True)
    assert str(own_path(hub.weights).parent) in str(caught.value)
    assert offer_weights(hub.weights).url in str(caught.value)
    assert hub.requests == []


def test_F63_a_page_instead_of_encoder_weights_is_refused(hub):
    hub.pages[hub.path] = hub.page(b"<!DOCTYPE html><title>Log in</title>")
    with pytest.raises(DownloadError, match="web page"):
        new_model(TINY, weights="imagenet", download=True)
    assert not own_path(hub.weights).exists()


def test_F75_a_file_in_the_cache_of_the_hub_is_taken(hub, tiny_weights, tmp_path, monkeypatch):
    import huggingface_hub

    cached = tmp_path / "cached.safetensors"
    cached.write_bytes(tiny_weights)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: str(cached))
    new_model(TINY, weights="imagenet")
    assert hub.requests == []
    assert not own_path(hub.weights).exists()
    assert json.loads((encoders_folder() / "sha256.json").read_text())


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


def test_what_would_be_fetched_is_known_before(hub):
    new = NewModel(f"smp-fpn/{TINY}", weights="imagenet")
    assert new.to_fetch().url == hub.url(hub.path)
    assert NewModel(f"smp-fpn/{TINY}").to_fetch() is None
    assert NewModel("unet-tiny", weights="some/file.pth").to_fetch() is None
    size, whole = new.size()
    assert size.parameters == find_encoder(TINY).parameters
    assert not whole
    assert NewModel("unet-tiny", ndim=3).size()[1]
