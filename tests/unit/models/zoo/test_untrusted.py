"""S05-S12: packages that were made to do harm, or were harmed on the way."""

from __future__ import annotations

import hashlib
import pickle

import pytest
import yaml

from unet_studio.errors import ModelError
from unet_studio.models.zoo.importing import import_package


@pytest.mark.parametrize(
    "source", ["../weights.pt", "/etc/passwd", "a\\b.pt", "file:///etc/passwd"]
)
@pytest.mark.parametrize("where", ["weights", "documentation", "test_tensor"])
def test_S09_paths_in_the_description_stay_inside(source, where, changed):
    def lead_out(values, files):
        if where == "weights":
            values["weights"]["onnx"]["source"] = source
        elif where == "documentation":
            values["documentation"] = source
        else:
            values["inputs"][0]["test_tensor"]["source"] = source

    with pytest.raises(ModelError, match="not a plain name"):
        import_package(changed(lead_out))


def test_S01_objects_in_yaml_are_not_made(changed, canary):
    def hostile(values, files):
        files["bioimageio.yaml"] = (
            f"type: model\nname: !!python/object/apply:os.mkdir [{canary.path}]\n".encode()
        )

    with pytest.raises(ModelError, match="can not be read"):
        import_package(changed(hostile))


def test_S08_a_description_that_grows_by_aliases_is_refused(changed):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]

    def bomb(values, files):
        files["bioimageio.yaml"] = "\n".join(lines).encode()

    with pytest.raises(ModelError, match="grows beyond"):
        import_package(changed(bomb))


def test_S01_code_in_a_state_dict_of_a_package_is_not_run(changed, canary):
    hostile = pickle.dumps({"weights": canary})

    def plant(values, files):
        files["weights.pt"] = hostile
        values["weights"]["pytorch_state_dict"]["sha256"] = hashlib.sha256(hostile).hexdigest()

    with pytest.raises(ModelError, match="more than weights|can not be read"):
        import_package(changed(plant))


def test_S10_source_code_of_a_package_is_not_run(changed, canary):
    code = f"import os\nos.mkdir({canary.path!r})\n".encode()

    def plant(values, files):
        files["unet.py"] = code
        architecture = values["weights"]["pytorch_state_dict"]["architecture"]
        architecture["sha256"] = hashlib.sha256(code).hexdigest()
        del values["config"]

    model = import_package(changed(plant))
    assert model.card.architecture == "unet"  # told from the weights


def test_S01_an_array_of_objects_is_not_unpickled(changed, canary):
    import io

    import numpy as np

    stream = io.BytesIO()
    np.save(stream, np.array([canary], dtype=object), allow_pickle=True)

    def plant(values, files):
        files["test_input.npy"] = stream.getvalue()
        digest = hashlib.sha256(files["test_input.npy"]).hexdigest()
        values["inputs"][0]["test_tensor"]["sha256"] = digest

    with pytest.raises(ModelError, match=r"test_input\.npy"):
        import_package(changed(plant))


@pytest.mark.parametrize("name", ["weights.onnx", "weights.pt", "test_output.npy", "README.md"])
def test_F64_S13_a_file_that_is_not_the_described_one_is_named(name, changed):
    def swap(values, files):
        files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
        if name == "README.md":
            digest = hashlib.sha256(b"another").hexdigest()
            values["documentation"] = {"source": "README.md", "sha256": digest}

    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        import_package(changed(swap))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v, f: f.pop("rdf.yaml"), "no package"),
        (lambda v, f: v.update(type="dataset"), "dataset"),
        (lambda v, f: v.update(format_version="0.3.6"), r"0\.3"),
        (lambda v, f: v["weights"].clear(), "weights"),
        (lambda v, f: v["inputs"].append(v["inputs"][0]), "takes 2 images"),
        (
            lambda v, f: v["inputs"][0].update(
                preprocessing=[{"id": "fantasy", "kwargs": {}}]
            ),
            "fantasy",
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_run_exactly_is_refused(change, words, changed):
    def made(values, files):
        change(values, files)
        values.pop("config", None)

    with pytest.raises(ModelError, match=words):
        import_package(changed(made))


def test_nothing_is_downloaded_unasked(changed, web):
    def elsewhere(values, files):
        del values["config"]
        del values["weights"]["pytorch_state_dict"], values["weights"]["torchscript"]
        values["weights"]["onnx"] = {
            **{k: v for k, v in values["weights"]["onnx"].items() if k != "parent"},
            "source": "https://example.org/far.onnx",
        }
        del files["weights.onnx"]

    with pytest.raises(ModelError, match="nothing is downloaded unasked"):
        import_package(changed(elsewhere))
    assert not web.requests


def test_a_valid_description_is_plain_yaml(exported):
    from .conftest import files_of

    values = yaml.safe_load(files_of(exported)["rdf.yaml"])
    assert values["type"] == "model"


@pytest.mark.parametrize("where", ["weights", "function", "branch", "training"])
def test_S09_onnx_that_reads_other_files_is_refused_wherever_it_hides(where, changed):
    """ONNX Runtime would open what is named, such as a file outside of the package."""
    import onnx
    from onnx import TensorProto, helper

    from unet_studio.models.networks.onnx import check_alone

    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1],
                          data_location=TensorProto.EXTERNAL)  # fmt: skip
    outside.external_data.add(key="location", value="../../secret")
    constant = helper.make_node("Constant", [], ["w"], value=outside)

    def plant(values, files):
        del values["config"]
        del values["weights"]["pytorch_state_dict"], values["weights"]["torchscript"]
        del values["weights"]["onnx"]["parent"]
        model = onnx.load_model_from_string(files["weights.onnx"])
        check_alone(model.SerializeToString(), "as it was")
        if where == "weights":
            model.graph.initializer.append(outside)
        elif where == "function":
            opset = helper.make_opsetid("", 17)
            model.functions.append(
                helper.make_function("own", "F", [], ["w"], [constant], [opset])
            )
        elif where == "branch":
            branch = helper.make_graph([constant], "b", [], [])
            model.graph.node.append(
                helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
            )
        else:
            info = model.training_info.add()
            info.algorithm.node.append(constant)
        files["weights.onnx"] = model.SerializeToString()
        digest = hashlib.sha256(files["weights.onnx"]).hexdigest()
        values["weights"]["onnx"]["sha256"] = digest

    with pytest.raises(ModelError, match="reads its weights from another file"):
        import_package(changed(plant))


def program_alone(values):
    del values["weights"]["pytorch_state_dict"], values["weights"]["torchscript"]
    del values["weights"]["onnx"]["parent"]


@pytest.mark.parametrize(
    "options",
    [
        {"edges": "ab"},
        {"edges": [0, 0]},
        {"edges": [[16], [16]]},
        {"edges": [["a", 1], [16, 1]]},
        {"edges": [10**9, 10**9]},
        {"axes": "bcqx"},
        {"channel": -1},
        {"channel": 99},
        {"output": "first"},
        {"output": 7},
    ],
    ids=str,
)
def test_S04_S20_a_card_of_ours_that_lies_of_a_program_is_refused(options, changed):
    def lie(values, files):
        program_alone(values)
        card = values["config"]["unet_studio"]["card"]
        card.update(architecture="onnx", options=options)

    with pytest.raises(ModelError):
        import_package(changed(lie))


@pytest.mark.parametrize("size", [10**9, {"min": 10**9, "step": 16}], ids=str)
@pytest.mark.parametrize("tried", [True, False], ids=["with test image", "without"])
def test_S20_a_program_that_takes_only_images_beyond_the_memory_is_refused(size, tried, changed):
    def huge(values, files):
        program_alone(values)
        del values["config"]
        for axis in values["inputs"][0]["axes"][2:]:
            axis["size"] = size
        if not tried:
            del files["test_input.npy"]

    with pytest.raises(ModelError, match="memory"):
        import_package(changed(huge))
