"""Packages of the BioImage Model Zoo give, here, what they gave where they were made."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pytest
import torch
import yaml

from unet_studio.errors import ModelError, RecipeError
from unet_studio.images.volume import as_volume
from unet_studio.inference.plan import resolve
from unet_studio.models import consent
from unet_studio.models.catalogue import entry_of_address
from unet_studio.models.fetching import fetch_model
from unet_studio.models.importing import import_model
from unet_studio.models.model import load_model, save_model
from unet_studio.models.presets import new_model
from unet_studio.models.zoo.importing import import_package
from unet_studio.models.zoo.programs import onnx_program
from unet_studio.pipeline import predict, segment
from unet_studio.recipe import Recipe


def textured(*shape):
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


@pytest.fixture(scope="module")
def broad(request):
    return request.getfixturevalue("shared_data") / "models" / "unet2d_nuclei_broad"


@pytest.mark.parametrize("weights", ["onnx", "state dict"])
def test_the_broad_nuclei_unet_gives_its_test_output(broad, weights, tmp_path):
    """Format 0.4, axes bcyx, zero mean and unit variance per sample."""
    given = {"state_dict": broad / "unet2d_nuclei_broad_state_dict.pt"}
    imported = import_package(broad, **(given if weights == "state dict" else {"weights": "onnx"}))
    save_model(imported, tmp_path / "broad.safetensors")
    model = load_model(tmp_path / "broad.safetensors")
    assert (model.card.architecture == "onnx") == (weights == "onnx")
    image, expected = (np.load(broad / f"test_{what}.npy") for what in ("input", "output"))
    found = predict(image[0, 0], model, precision="float32", keep="logits").probabilities
    assert np.abs(torch.sigmoid(torch.from_numpy(found)).numpy() - expected[0]).max() <= 1e-4
    assert model.card.training["bioimage_io"]["test"]["passed"] is True
    assert any("reproduced" in note for note in imported.notes)


def without_ours(values, files):
    """As another program would have written it, with ONNX alone."""
    del values["config"]
    del values["weights"]["pytorch_state_dict"], values["weights"]["torchscript"]
    del values["weights"]["onnx"]["parent"]


def test_a_package_of_another_program_runs_by_onnx(changed, tiny):
    model = import_package(changed(without_ours))
    assert model.card.architecture == "onnx"
    assert model.card.normalisation.method == "percentile" or model.card.normalisation.options
    assert model.card.classes == ("cell",)
    image = textured(224, 240)  # programs are handed no less than they were made for
    ours = predict(image, tiny, precision="float32").probabilities.astype(np.float32)
    theirs = predict(image, model).probabilities.astype(np.float32)
    assert np.abs(ours - theirs).max() < 2e-3


def test_tiles_of_a_program_are_as_exact_as_measured(changed):
    model = import_package(changed(without_ours))
    assert model.card.tile_invariant
    assert model.card.halo >= 92  # of the network inside
    image = np.random.default_rng(0).random((400, 380)).astype(np.float32)
    tiled = predict(image, model, tiling={"tile": 288}, keep="logits")
    assert tiled.record["tiles"]["count"] > 1
    whole = predict(image, model, tiling={"tile": 4096}, keep="logits")
    assert np.abs(tiled.probabilities - whole.probabilities).max() < 1e-4


def test_a_program_of_fixed_shape_gets_tiles_of_it(changed):
    def fixed(values, files):
        without_ours(values, files)
        for axis in values["inputs"][0]["axes"][2:]:
            axis["size"] = np.load(io.BytesIO(files["test_input.npy"])).shape[-1]
        for axis in values["outputs"][0]["axes"][2:]:
            axis["size"] = values["inputs"][0]["axes"][2]["size"]
            axis.pop("halo", None)

    model = import_package(changed(fixed))
    edge = model.card.tile_limit[0]
    plan = resolve(Recipe(model="-"), model.card, as_volume(np.zeros((3 * edge, edge))).info)
    assert max(plan.tile_shape) <= edge
    result = segment(textured(edge + 40, edge + 9), model)
    assert result.record["tiles"]["count"] >= 4


def test_the_store_imports_it_and_says_how_it_went(exported, home):
    imported = import_model(exported)
    assert any("reproduced to" in note for note in imported.notes)
    assert load_model(imported.entry.name).card.classes == ("cell",)
    with pytest.raises(RecipeError, match="no option 'colour'"):
        import_model(exported, name="other", options={"colour": "red"})


def test_an_address_leads_to_a_package_as_well(exported, web):
    web.pages["/tiny.zip"] = web.page(exported.read_bytes())
    fetched = fetch_model(entry_of_address(web.url("/tiny.zip")))
    assert any("reproduced to" in note for note in fetched.notes)
    assert load_model("tiny").card.classes == ("cell",)


def test_of_several_independent_channels_one_is_taken_and_the_way_to_another_works(changed):
    two_heads = new_model("unet-tiny", name="two heads", representation="classes",
                          classes=("cell", "rim"), licence="CC0-1.0")  # fmt: skip

    def two(values, files):
        without_ours(values, files)
        image = np.load(io.BytesIO(files["test_input.npy"]))[0, 0]
        logits = predict(image, two_heads, precision="float32", keep="logits").probabilities
        stream = io.BytesIO()
        np.save(stream, 1 / (1 + np.exp(-logits[None])))
        files["two.npy"], files["weights.onnx"] = stream.getvalue(), onnx_program(two_heads)
        output = values["outputs"][0]
        output["axes"][1]["channel_names"] = ["cell", "rim"]
        output["test_tensor"] = {"source": "two.npy"}
        digest = hashlib.sha256(files["weights.onnx"]).hexdigest()
        values["weights"]["onnx"]["sha256"] = digest

    package = changed(two)
    first = import_model(package, name="first")
    assert any("--set channel=1" in note for note in first.notes)
    second = import_model(package, name="second", options={"channel": "1"})
    for imported, name in ((first, "cell"), (second, "rim")):
        assert imported.entry.card.classes == (name,)
        assert any("reproduced to" in note for note in imported.notes)


# -- weights that do not compute what the package says -------------------------


def of_another_network(values, files):
    """The layout of the state dict is known here, but ONNX and test output are another's."""
    del values["config"], values["weights"]["torchscript"]
    other = new_model("unet-tiny", name="other", representation="binary", classes=("cell",),
                      seed=5)  # fmt: skip
    image = np.load(io.BytesIO(files["test_input.npy"]))[0, 0]
    logits = predict(image, other, precision="float32", keep="logits").probabilities
    stream = io.BytesIO()
    np.save(stream, 1 / (1 + np.exp(-logits[None].astype(np.float64))))
    files["test_output.npy"], files["weights.onnx"] = stream.getvalue(), onnx_program(other)
    digest = hashlib.sha256(files["test_output.npy"]).hexdigest()
    values["outputs"][0]["test_tensor"]["sha256"] = digest
    values["weights"]["onnx"] = {
        "source": "weights.onnx",
        "sha256": hashlib.sha256(files["weights.onnx"]).hexdigest(),
        "opset_version": 17,
    }


def test_onnx_is_taken_where_the_state_dict_fails_the_test_image(changed):
    model = import_package(changed(of_another_network))
    assert model.card.architecture == "onnx"
    assert model.card.training["bioimage_io"]["weights"] == "onnx"
    assert model.card.training["bioimage_io"]["test"]["passed"] is True
    assert any("pytorch_state_dict was passed over" in note for note in model.notes)
    assert not any(note.startswith("Warning") for note in model.notes)
    assert model.card.notes == ()


def test_weights_that_the_user_chose_are_taken_with_a_warning(changed):
    model = import_package(changed(of_another_network), weights="pytorch_state_dict")
    assert model.card.architecture == "unet"
    assert model.card.training["bioimage_io"]["test"]["passed"] is False
    (warning,) = [note for note in model.notes if note.startswith("Warning")]
    assert "Do not trust this model" in warning
    assert model.card.notes == (warning,)


def test_the_state_dict_is_taken_where_no_weights_pass_or_onnx_is_damaged(changed):
    def damaged(values, files):
        of_another_network(values, files)
        files["weights.onnx"] = b"no program"
        digest = hashlib.sha256(files["weights.onnx"]).hexdigest()
        values["weights"]["onnx"]["sha256"] = digest

    model = import_package(changed(damaged))
    assert model.card.architecture == "unet"
    assert any("can not be used" in note for note in model.notes)
    assert any(note.startswith("Warning") for note in model.notes)


def test_a_layout_that_only_looks_known_leads_to_onnx(changed):
    def looks_known(values, files):
        del values["config"], values["weights"]["torchscript"]
        del values["weights"]["onnx"]["parent"]
        held = torch.load(io.BytesIO(files["weights.pt"]), weights_only=True)
        stream = io.BytesIO()
        torch.save({**held, "attention.weight": torch.ones(1)}, stream)
        files["weights.pt"] = stream.getvalue()
        digest = hashlib.sha256(files["weights.pt"]).hexdigest()
        values["weights"]["pytorch_state_dict"]["sha256"] = digest

    model = import_package(changed(looks_known))
    assert model.card.architecture == "onnx"
    assert any("attention.weight is not part of" in note for note in model.notes)


def test_a_description_takes_only_the_files_that_it_names(exported, tmp_path):
    """It lies among others, one of which would be taken for the description first."""
    from .conftest import files_of

    for name, content in files_of(exported).items():
        (tmp_path / name).write_bytes(content)
    values = yaml.safe_load((tmp_path / "rdf.yaml").read_bytes())
    values["attachments"] = [{"source": "bioimageio.yaml"}]
    (tmp_path / "rdf.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "bioimageio.yaml").write_text("type: dataset\nname: another\n")
    for number in range(10_001):  # more than a package may hold
        (tmp_path / f"{number}.txt").touch()
    assert import_package(tmp_path / "rdf.yaml").card.classes == ("cell",)
    with pytest.raises(ModelError, match="10,000 files"):
        import_package(tmp_path)


# -- TorchScript: a program ----------------------------------------------------


def scripted(values, files):
    del values["config"]
    del values["weights"]["pytorch_state_dict"], values["weights"]["onnx"]
    del values["weights"]["torchscript"]["parent"]


def test_S12_torchscript_runs_after_consent_alone(changed, tiny, tmp_path, monkeypatch):
    package = changed(scripted)
    opened = []
    real = torch.jit.load
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: opened.append(1) or real(*a, **k))
    with pytest.raises(ModelError, match="TorchScript is a program.*allow_torchscript"):
        import_package(package)
    assert not opened
    model = import_package(package, allow_torchscript=True)
    assert opened
    assert len(json.loads(consent.consent_path().read_text())) == 1
    save_model(model, tmp_path / "s.safetensors")
    image = textured(224, 240)
    ours = predict(image, tiny, precision="float32").probabilities.astype(np.float32)
    theirs = predict(image, load_model(tmp_path / "s.safetensors")).probabilities
    assert np.abs(ours - theirs.astype(np.float32)).max() < 2e-3


def test_S12_a_model_file_of_a_colleague_is_no_consent(changed, tmp_path, home):
    model = import_package(changed(scripted), allow_torchscript=True)
    save_model(model, tmp_path / "s.safetensors")
    consent.consent_path().unlink()
    with pytest.raises(ModelError, match="was not run"):
        segment(textured(64, 64), load_model(tmp_path / "s.safetensors"))
