"""Our models as packages, ONNX and TorchScript that others can use, and we again."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

from unet_studio.errors import ModelError
from unet_studio.models.model import load_model
from unet_studio.models.presets import new_model
from unet_studio.models.zoo.exporting import export_bioimageio
from unet_studio.models.zoo.importing import import_package
from unet_studio.models.zoo.programs import example_tensor, export_onnx, export_torchscript
from unet_studio.pipeline import segment
from unet_studio.samples import sample_path

from .conftest import files_of


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
    from unet_studio.models.card import ModelCard
    from unet_studio.models.model import Model, build_network
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
