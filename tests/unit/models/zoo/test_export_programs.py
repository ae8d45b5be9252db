"""Models that came as programs go out as packages again: the same program, described anew."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import yaml

from unet_studio.errors import ConsentNeeded, ModelError
from unet_studio.models import consent
from unet_studio.models.importing import import_model
from unet_studio.models.model import load_model, save_model
from unet_studio.models.presets import new_model
from unet_studio.models.zoo.exporting import export_bioimageio
from unet_studio.models.zoo.importing import import_package
from unet_studio.pipeline import predict

from .conftest import files_of


def alone(kind):
    """Return a change that leaves one kind of weights, as another program writes it."""

    def change(values, files):
        del values["config"]
        for other in ("pytorch_state_dict", "onnx", "torchscript"):
            if other != kind:
                del values["weights"][other]
        del values["weights"][kind]["parent"]

    return change


def same(model, back):
    assert back.network.program() == model.network.program()
    kept = {"source", "training"}
    assert back.card.model_dump(exclude=kept) == model.card.model_dump(exclude=kept)
    assert back.card.training["bioimage_io"]["test"]["passed"] is True


def weights_of(package):
    return yaml.safe_load(files_of(package)["rdf.yaml"])["weights"]


def test_an_onnx_program_goes_out_and_comes_back(changed, tmp_path):
    model = import_package(changed(alone("onnx")))
    package = export_bioimageio(model, tmp_path / "out.zip")
    assert set(weights_of(package)) == {"onnx"}
    assert weights_of(package)["onnx"]["opset_version"] == 17
    same(model, import_package(package))
    # A third program, which knows nothing of our card, can use it, too.
    files = files_of(package)
    values = yaml.safe_load(files["rdf.yaml"])
    assert values["inputs"][0]["axes"][0] == {"type": "batch", "size": 1}
    del values["config"]
    for name, content in {**files, "rdf.yaml": yaml.safe_dump(values).encode()}.items():
        (tmp_path / name).write_bytes(content)
    foreign = import_package(tmp_path / "rdf.yaml")
    assert any("reproduced to" in note for note in foreign.notes)


def test_a_torchscript_program_goes_out_after_consent_and_comes_back(changed, tmp_path):
    model = import_package(changed(alone("torchscript")), allow_torchscript=True)
    path = save_model(model, tmp_path / "s.safetensors").path
    package = export_bioimageio(load_model(path), tmp_path / "out.zip")
    assert set(weights_of(package)) == {"torchscript"}
    same(model, import_package(package))
    consent.consent_path().unlink()
    with pytest.raises(ConsentNeeded, match="was not run"):
        export_bioimageio(load_model(path), tmp_path / "again.zip")
    assert not (tmp_path / "again.zip").exists()
    with pytest.raises(ConsentNeeded):
        import_package(package)


def test_axes_and_lengths_that_a_program_insists_on_are_kept(changed, tmp_path):
    """Of two channels one is taken, axes come last to first, and images are of one size."""
    two_heads = new_model("unet-tiny", name="two heads", representation="classes",
                          classes=("cell", "rim"), licence="CC0-1.0")  # fmt: skip

    class Turned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = two_heads.network

        def forward(self, image):  # (Y, X, C)
            return self.network(image.permute(2, 0, 1)[None])[0].permute(1, 2, 0)

    traced = io.BytesIO()
    torch.jit.save(torch.jit.trace(Turned(), torch.zeros(256, 256, 1)), traced)

    def turned(values, files):
        alone("torchscript")(values, files)
        image = np.load(io.BytesIO(files["test_input.npy"]))[0, 0][:256, :256]
        logits = predict(image, two_heads, precision="float32", keep="logits").probabilities
        outputs = 1 / (1 + np.exp(-logits.astype(np.float64)))
        for name, array in (("in.npy", image[None]), ("out.npy", outputs)):
            stream = io.BytesIO()
            np.save(stream, array.astype(np.float32).transpose(1, 2, 0))
            files[name] = stream.getvalue()
        files["weights.torchscript.pt"] = traced.getvalue()
        del values["weights"]["torchscript"]["sha256"]
        for tensor, name in ((values["inputs"][0], "in.npy"), (values["outputs"][0], "out.npy")):
            tensor["axes"] = [
                {"type": "space", "id": "y", "size": 256},
                {"type": "space", "id": "x", "size": 256},
                tensor["axes"][1],
            ]
            tensor["test_tensor"] = {"source": name}
        values["outputs"][0]["axes"][2]["channel_names"] = ["cell", "rim"]

    package = changed(turned)
    model = import_package(package, channel=1, allow_torchscript=True)
    assert model.card.classes == ("rim",)
    again = export_bioimageio(model, tmp_path / "out.zip")
    files = files_of(again)
    values = yaml.safe_load(files["rdf.yaml"])
    assert [axis.get("id", axis["type"]) for axis in values["inputs"][0]["axes"]] == [
        "y", "x", "channel"
    ]  # fmt: skip
    assert [axis["size"] for axis in values["inputs"][0]["axes"][:2]] == [256, 256]
    assert values["outputs"][0]["axes"][2]["channel_names"] == ["channel0", "rim"]
    assert np.load(io.BytesIO(files["test_output.npy"])).shape == (256, 256, 2)
    assert "256 × 256" in files["README.md"].decode()
    same(model, import_package(again))


def test_the_broad_nuclei_unet_goes_out_and_still_gives_its_test_output(shared_data, tmp_path):
    """Format 0.4 comes in, 0.5 goes out; the makers' own image is the example."""
    broad = shared_data / "models" / "unet2d_nuclei_broad"
    model = import_package(broad, weights="onnx")
    image, expected = (np.load(broad / f"test_{what}.npy") for what in ("input", "output"))
    package = export_bioimageio(model, tmp_path / "out.zip", example=image[0])
    files = files_of(package)
    given = np.load(io.BytesIO(files["test_input.npy"]))
    np.testing.assert_array_equal(given, image)
    found = np.load(io.BytesIO(files["test_output.npy"]))
    assert np.abs(found - expected).max() <= 1e-4
    imported = import_model(package, name="again")
    assert load_model("again").card.options == model.card.options
    assert any("reproduced to" in note for note in imported.notes)


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_a_program_is_no_preset(kind):
    with pytest.raises(ModelError, match=r"can not be made anew\. Import the package"):
        new_model(kind)
