"""Our models as packages, ONNX and TorchScript that others can use, and we again."""

from __future__ import annotations

import importlib.util
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

from unet_studio.errors import ModelError
from unet_studio.images.normalisation import sample_for_statistics
from unet_studio.images.normalisers import NORMALISERS
from unet_studio.models.card import ModelCard
from unet_studio.models.exporting import Details, ExportRequest, export_model
from unet_studio.models.importing import import_model
from unet_studio.models.model import Model, build_network, load_model, save_model
from unet_studio.models.presets import new_model
from unet_studio.models.zoo.exporting import _example, export_bioimageio, stated_licence
from unet_studio.models.zoo.importing import import_package
from unet_studio.models.zoo.preprocessing import map_preprocessing
from unet_studio.models.zoo.processing_out import preprocessing_of
from unet_studio.models.zoo.programs import example_tensor, export_onnx, export_torchscript
from unet_studio.models.zoo.tensors import Axis, Process, Tensor
from unet_studio.pipeline import predict, segment
from unet_studio.recipe import Normalisation, Preparation
from unet_studio.samples import sample_path

from .conftest import files_of

CARD = ModelCard(
    name="three colours", architecture="unet", options={"widths": [4, 8, 8]}, in_channels=3,
    representation="binary", stride=4, licence="CC0-1.0",
)  # fmt: skip


def same_weights(one, other):
    a, b = one.network.state_dict(), other.network.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_bundled_model_goes_out_and_comes_back_bit_by_bit(tmp_path):
    model = load_model("nuclei")
    back = import_package(export_bioimageio(model, tmp_path / "package.zip"))
    assert same_weights(model, back)
    kept = {"source", "training"}
    assert back.card.model_dump(exclude=kept) == model.card.model_dump(exclude=kept)
    sample = sample_path("nuclei_fluorescence")
    np.testing.assert_array_equal(segment(sample, back).labels, segment(sample, model).labels)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            {"preset": "resnet18", "in_channels": 2, "representation": "classes",
             "classes": ("ground", "sky")},
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_other_networks_go_out_and_come_back(options, tmp_path):
    model = new_model(**options, name="a model", licence="CC0-1.0")
    back = import_package(export_bioimageio(model, tmp_path / "package.zip"))
    assert same_weights(model, back)


def test_planes_that_are_thick_have_axes_of_their_own(tmp_path):
    from unet_studio.models.probe import probe_network

    card = ModelCard(
        name="thick planes", architecture="unet", in_channels=1, ndim=3, representation="binary",
        options={"widths": [4, 8, 8], "poolings": [[1, 2, 2], [2, 2, 2]]}, licence="CC0-1.0",
        patch=(16, 32, 32), stride=(2, 4, 4), voxel_size=(2.0, 0.5, 0.5),
    )  # fmt: skip
    network = build_network(card).eval().requires_grad_(False)
    model = Model(card.model_copy(update=probe_network(network, card).card_fields()), network)
    package = export_bioimageio(model, tmp_path / "package.zip")
    axes = yaml.safe_load(files_of(package)["rdf.yaml"])["inputs"][0]["axes"][2:]
    assert [axis["size"]["step"] for axis in axes] == [2, 4, 4]
    assert [axis["scale"] for axis in axes] == [2.0, 0.5, 0.5]
    assert import_package(package).card.halos == model.card.halos


# -- preparations and normalisations that are not words of the format ----------------


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "span": [0, 255]},
        {"mean": [0.5], "std": [0.5], "span": [10, 1000]},
    ],
)
def test_an_encoders_own_normalisation_is_said_in_the_formats_words(options, joint):
    """The words alone, read as those of a stranger, give the same numbers."""
    card = CARD.model_copy(
        update={
            "normalisation": Normalisation(
                method="pretrained", options={**options, "joint": joint}
            )
        }
    )
    axes = tuple(
        Axis(letter, size) for letter, size in (("b", None), ("c", 3), ("y", 8), ("x", 8))
    )
    steps = tuple(Process.model_validate(step) for step in preprocessing_of(card))
    read, _ = map_preprocessing(Tensor("image", axes, steps), "0.5")
    image = np.random.default_rng(0).gamma(2, 60, (3, 40, 50)).astype(np.float32)
    image[1] *= 3
    given, found = (
        NORMALISERS.load(n.method)(sample_for_statistics(image), **n.options).apply(image)
        for n in (card.normalisation, read)
    )
    assert given.std() > 0.1
    np.testing.assert_allclose(found, given, rtol=1e-5, atol=1e-5)


def test_a_model_on_a_trained_encoder_goes_out_and_comes_back(tmp_path):
    card = CARD.model_copy(
        update={"normalisation": Normalisation(method="pretrained", options={"joint": True})}
    )
    model = Model(card, build_network(card).eval().requires_grad_(False))
    package = export_bioimageio(model, tmp_path / "package.zip")
    back = import_package(package)
    assert back.card.normalisation == card.normalisation
    image = np.random.default_rng(0).gamma(2, 60, (64, 70, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        predict(image, back, axes="YXC").probabilities,
        predict(image, model, axes="YXC").probabilities,
    )
    foreign = import_package(without_our_card(package, tmp_path))
    assert foreign.card.normalisation.method == "steps"
    assert "reproduced" in " ".join(foreign.notes)


def without_our_card(package, folder):
    files = files_of(package)
    values = yaml.safe_load(files["rdf.yaml"])
    del values["config"]
    files["rdf.yaml"] = yaml.safe_dump(values).encode()
    target = folder / "foreign.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def test_a_network_that_takes_prepared_volumes_says_how_and_comes_back(tmp_path):
    card = ModelCard(
        name="small brain", architecture="hub-unet", options={"features": 4}, in_channels=3,
        representation="binary", normalisation=Normalisation(method="fixed"), licence="MIT",
        preparation=Preparation(method="brain-mri", options={"size": 64}), output="logits",
    )  # fmt: skip
    model = Model(card, build_network(card).eval().requires_grad_(False))
    package = export_bioimageio(model, tmp_path / "package.zip")
    files = files_of(package)
    assert "64 × 64 pixels by splines of order 2" in files["README.md"].decode()
    values = yaml.safe_load(files["rdf.yaml"])
    assert "prepared" in values["description"]
    steps = values["inputs"][0]["preprocessing"]
    assert {step["id"] for step in steps} == {"ensure_dtype"}, "nothing is done twice"
    back = import_package(package)
    assert back.card.preparation == card.preparation
    assert same_weights(model, back)
    volume = np.random.default_rng(0).gamma(2, 60, (5, 70, 50, 3)).astype(np.float32)
    expected = predict(volume, model, axes="ZYXC").probabilities
    assert expected.std() > 0
    np.testing.assert_array_equal(predict(volume, back, axes="ZYXC").probabilities, expected)


def test_an_image_for_such_a_network_is_prepared_before_it_is_in_the_package(tmp_path):
    card = CARD.model_copy(update={"preparation": Preparation(method="brain-mri")})
    image = np.random.default_rng(0).gamma(2, 60, (3, 90, 70))
    network = build_network(card).eval()
    model = Model(
        card.model_copy(update={"normalisation": Normalisation(method="fixed")}), network
    )
    shown = _example(model, image)
    assert shown.shape == (1, 3, 256, 256)
    np.testing.assert_allclose(shown.mean(axis=(0, 2, 3)), 0, atol=1e-5)


@pytest.mark.parametrize("kind", ["2d", "3d_fullres"])
def test_a_model_of_nnunet_goes_out_and_comes_back(kind, tmp_path):
    folder = Path(__file__).parents[1] / f"nnunet/data/nnUNetTrainer_20epochs__nnUNetPlans__{kind}"
    name = import_model(folder, name="small", options={"fold": "0"}).entry.name
    model = load_model(name)
    package = export_bioimageio(model, tmp_path / "package.zip")
    back = import_package(package)
    assert same_weights(model, back)
    kept = {"source", "training"}
    assert back.card.model_dump(exclude=kept) == model.card.model_dump(exclude=kept)
    assert "As nnU-Net v2 does" in files_of(package)["README.md"].decode()


def test_a_model_that_answers_clicks_takes_clicks_that_nothing_scales(tmp_path):
    package = export_bioimageio(load_model("clicks"), tmp_path / "package.zip")
    files = files_of(package)
    steps = yaml.safe_load(files["rdf.yaml"])["inputs"][0]["preprocessing"]
    assert {step["id"] for step in steps} == {"ensure_dtype"}
    image = np.load(io.BytesIO(files["test_input.npy"]))[0]
    assert set(np.unique(image[3:])) == {0, 1}
    middle = np.load(io.BytesIO(files["test_output.npy"]))[0, 0]
    assert middle[middle.shape[0] // 2, middle.shape[1] // 2] > 0.5, "what was clicked is found"
    assert "answers clicks" in files["README.md"].decode()
    back = import_package(package)
    assert "reproduced" in " ".join(back.notes)
    assert back.card.clicks == load_model("clicks").card.clicks


def test_a_licence_that_is_no_identifier_is_left_out_and_told(tmp_path):
    card = CARD.model_copy(update={"licence": "encoder: apache-2.0"})
    path = tmp_path / "m.safetensors"
    save_model(Model(card, build_network(card).eval()), path)
    told = export_model(ExportRequest(path, tmp_path / "package.zip"))
    assert "'encoder: apache-2.0' is no SPDX identifier" in told[1]
    files = files_of(tmp_path / "package.zip")
    assert "license" not in yaml.safe_load(files["rdf.yaml"])
    assert "encoder: apache-2.0" in files["README.md"].decode()
    with pytest.raises(ModelError, match="'mine' is no SPDX identifier"):
        export_model(ExportRequest(path, tmp_path / "b.zip", details=Details(licence="mine")))
    assert stated_licence(card, Details(licence="cc-by-4.0")) == "CC-BY-4.0"


# -- the files in the package --------------------------------------------------------


def test_the_source_in_the_package_stands_on_its_own(exported, tmp_path):
    """Whoever has torch can build the network: nothing of ours is imported."""
    files = files_of(exported)
    (tmp_path / "unet.py").write_bytes(files["unet.py"])
    assert b"unet_studio" not in files["unet.py"]
    values = yaml.safe_load(files["rdf.yaml"])
    architecture = values["weights"]["pytorch_state_dict"]["architecture"]
    spec = importlib.util.spec_from_file_location("unet_of_package", tmp_path / "unet.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    network = getattr(module, architecture["callable"])(**architecture["kwargs"]).eval()
    (tmp_path / "weights.pt").write_bytes(files["weights.pt"])
    network.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 1, 64, 64)


def test_onnx_and_torchscript_compute_the_same(tiny, tmp_path):
    assert export_onnx(tiny, tmp_path / "m.onnx") < 1e-3
    assert export_torchscript(tiny, tmp_path / "m.pt") < 1e-3
    image = example_tensor(tiny)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
    with torch.no_grad():
        expected = tiny.network(image)
        scripted = torch.jit.load(tmp_path / "m.pt")(image)
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scripted, expected, atol=1e-4, rtol=1e-4)


def test_what_is_there_stays_until_the_new_one_is_valid(tiny, tmp_path):
    target = tmp_path / "package.zip"
    target.write_bytes(b"precious")
    with pytest.raises(ModelError, match="shape"):
        export_bioimageio(tiny, target, example=np.zeros((3, 9, 9)))
    assert target.read_bytes() == b"precious"
    with pytest.raises(ModelError, match=r"end in \.zip"):
        export_bioimageio(tiny, tmp_path / "package.tar")
