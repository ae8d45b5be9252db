"""Weight files that are broken, foreign or hostile: one clear message, and nothing is run.

Names follow the catalogue of faults: F60 to F72 (weights), S01 (pickles), S19, S20.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from unet_studio.errors import ModelError
from unet_studio.models.foreign import open_weights
from unet_studio.models.foreign.convert import convert_weights
from unet_studio.models.networks.unet import UNet

WIDTHS = (4, 8, 16)


@pytest.fixture
def state():
    torch.manual_seed(0)
    return UNet(1, 1, WIDTHS).eval().state_dict()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pt"


def refused(path, pattern):
    with pytest.raises(ModelError, match=pattern) as caught:
        open_weights(path)
    text = str(caught.value)
    assert path.name in text
    assert "weights_only" not in text  # torch advises to trust the file: we do not
    return text


def test_f60_a_missing_file(tmp_path):
    refused(tmp_path / "no.pt", "There is no file")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".bin", ".ckpt"])
def test_f61_an_empty_file(tmp_path, suffix):
    path = tmp_path / f"empty{suffix}"
    path.touch()
    refused(path, "0 bytes")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.98])
def test_f62_a_truncated_file(path, state, form, share):
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, "truncated|damaged|no PyTorch weights")


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>", b"\n\n<html><head>", b"<?xml version"])
def test_f63_a_web_page(path, page):
    path.write_bytes(page + b" Please log in " * 40)
    refused(path, "web page")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "Keras"),
        (b"\x1f\x8b" + bytes(100), "gzip"),
        (b"hello, this is text", "no PyTorch weights"),
        (bytes(range(256)), "no PyTorch weights"),
    ],
)
def test_files_of_another_kind_are_named(path, content, words):
    path.write_bytes(content)
    refused(path, words)


def test_f65_f66_f68_differences_are_a_table_of_the_first_five(path, state):
    del state["down.1.1.bias"]
    state["extra.weight"] = torch.zeros(3)
    state["up.0.up.weight"] = torch.zeros(16, 7, 2, 2)
    for index in range(4):
        state[f"more.{index}"] = torch.tensor(0)
    torch.save(state, path)
    text = refused(path, "do not fit the architecture 'unet': 7 of ")
    lines = text.splitlines()
    assert lines[1].split() == ["name", "in", "the", "file", "expected"]
    assert "down.1.1.bias" in lines[2]
    assert lines[2].split()[1:] == ["–", "8"]
    assert "16 × 7 × 2 × 2" in lines[3]
    assert "16 × 8 × 2 × 2" in lines[3]
    assert lines[7] == "… and 2 more"
    assert "Nothing was loaded in part" in text


def test_f68_a_class_too_many(path, state):
    torch.save(state, path)
    with pytest.raises(ModelError, match=r"head\.weight\s+1 × 4 × 1 × 1\s+3 × 4 × 1 × 1"):
        convert_weights(path, representation="classes", classes=("background", "a", "b"))
    with pytest.raises(ModelError, match=r"down\.0\.0\.weight\s+4 × 1 × 3 × 3\s+4 × 2 × 3 × 3"):
        convert_weights(path, in_channels=2)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.net."])
def test_f67_prefixes_of_wrappers_are_taken_off_and_told(path, state, prefix):
    torch.save({prefix + n: v for n, v in state.items()}, path)
    model = convert_weights(path)
    assert any(repr(prefix) in note and "taken off" in note for note in model.notes)
    assert model.card.notes == model.notes
    torch.testing.assert_close(model.network.state_dict(), state)


def test_f69_a_training_checkpoint_and_a_lightning_one(path, state):
    optimizer = torch.optim.Adam(UNet(1, 1, WIDTHS).parameters())
    torch.save({"epoch": 3, "model": state, "optimizer": optimizer.state_dict()}, path)
    assert any("'model'" in note for note in convert_weights(path).notes)
    lightning = {
        "pytorch-lightning_version": "2.4.0",
        "epoch": 3,
        "state_dict": {
            **{f"model.{n}": v for n, v in state.items()},
            "criterion.pos_weight": torch.ones(1),
        },
    }
    torch.save(lightning, path)
    model = convert_weights(path)
    assert any("criterion.pos_weight" in note for note in model.notes)
    torch.testing.assert_close(model.network.state_dict(), state)


def test_f69_without_weights_the_keys_are_listed(path, state):
    torch.save({"epoch": 3, "my_thing": {"deeper": {"w": torch.ones(2)}}, "best": 0.5}, path)
    refused(path, r"epoch \(a int\), my_thing \(1 entries\), best \(a float\)")
    torch.save(torch.ones(3), path)
    refused(path, "a tensor of shape")
    torch.save({}, path)
    refused(path, "It holds: nothing")


def test_values_beside_the_tensors_are_left_out_and_told(path, state):
    torch.save({**state, "mask_values": [0, 255]}, path)
    assert any("mask_values" in note for note in convert_weights(path).notes)


def test_f70_a_whole_model_is_refused_with_advice(path):
    torch.save(nn.Sequential(nn.Conv2d(1, 1, 3)), path)
    text = refused(path, r"an object of torch\.nn\.modules")
    assert "torch.save(model.state_dict()" in text
    torch.save({"model": nn.Conv2d(1, 1, 3)}, path)
    refused(path, "state_dict")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_f71_other_floating_points_become_float32(path, state, dtype, form):
    other = {n: v.to(dtype) if v.is_floating_point() else v for n, v in state.items()}
    if form == "torch":
        torch.save(other, path)
    else:
        safetensors.torch.save_file(other, path)
    model = convert_weights(path)
    assert all(p.dtype == torch.float32 for p in model.network.parameters())
    assert torch.equal(model.network.head.weight, other["head.weight"].float())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_f72_weights_that_are_no_numbers(path, state, number):
    state["head.bias"][0] = number
    torch.save(state, path)
    refused(path, r"NaN or infinite numbers \(in head\.bias\)")


@pytest.mark.filterwarnings("ignore")  # torch's, of what is saved; reading must give none
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.zeros(1, dtype=torch.complex64), "head.bias .*complex64"),
        (lambda: torch.zeros(1).to_sparse(), "head.bias .*sparse_coo"),
        (lambda: torch.zeros(1, 1).to_sparse_csr(), "head.bias .*sparse_csr"),
        (lambda: torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.qint8), "quantised"),
        (lambda: torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]), "nested"),
    ],
)
def test_kinds_of_tensors_that_no_network_here_has(path, state, make, words):
    torch.save({**state, "head.bias": make()}, path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the user sees one message, ours, and none of torch
        refused(path, f"{words}.*Save the weights as float32")


# -- hostile files --------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".bin", ".ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_s01_code_in_a_state_dict(tmp_path, state, canary, suffix, zipped):
    path = tmp_path / f"evil{suffix}"
    torch.save({**state, "extra": canary}, path, _use_new_zipfile_serialization=zipped)
    refused(path, "more than weights: an object of posix.mkdir|nt.mkdir")


def test_s01_code_in_a_nested_checkpoint(path, state, canary):
    torch.save({"state_dict": {**state, "deep": {"deeper": [canary]}}, "epoch": 1}, path)
    refused(path, "more than weights")


def test_s01_code_in_the_legacy_tar(path, canary):
    evil, number = pickle.dumps(canary, 2), pickle.dumps(0, 2)
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            content = evil if name in ("pickle", "tensors") else number
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    refused(path, "a tar file")


def test_s01_code_in_the_legacy_zip_of_torch_hub(path, canary):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights.pth", pickle.dumps(canary, 2))
    refused(path, "a zip without weights that PyTorch saved")


@pytest.mark.parametrize("protocol", [2, 4])
def test_s01_a_bare_pickle(path, canary, protocol):
    path.write_bytes(pickle.dumps(canary, protocol))
    refused(path, "safely|more than weights|damaged")


def test_s01_an_array_pickle_of_numpy(tmp_path, canary):
    path = tmp_path / "weights.bin"
    np.save(tmp_path / "array.npy", np.array([canary], dtype=object), allow_pickle=True)
    path.write_bytes((tmp_path / "array.npy").read_bytes())
    refused(path, "no PyTorch weights")


def test_a_torchscript_archive_is_refused_with_the_reason(path):
    torch.jit.save(torch.jit.script(nn.Conv2d(1, 1, 3)), path)
    text = refused(path, "TorchScript archive: a program")
    assert "state_dict" in text


def test_s03_an_older_torch_opens_no_pt_file(path, state, monkeypatch):
    torch.save(state, path)
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    refused(path, "Update torch to 2.10")
    safetensors.torch.save_file(state, path)
    convert_weights(path)


def _header(header: dict | bytes, payload: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + payload


_F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
_MALFORMED = {
    "longer than the file": _header({"a": _F32}, bytes(8), 10**9),
    "length of 2**63": _header({"a": _F32}, bytes(8), 2**63),
    "not JSON": _header(b"{nonsense", bytes(8)),
    "a list": _header(b"[1, 2, 3]", bytes(8)),
    "offsets beyond the end": _header({"a": {**_F32, "data_offsets": [0, 800]}}, bytes(8)),
    "offsets backwards": _header({"a": {**_F32, "data_offsets": [8, 0]}}, bytes(8)),
    "negative shape": _header({"a": {**_F32, "shape": [-2]}}, bytes(8)),
    "huge shape": _header({"a": {**_F32, "shape": [2**40, 2**40]}}, bytes(8)),
    "unknown dtype": _header({"a": {**_F32, "dtype": "Q7"}}, bytes(8)),
    "overlapping": _header({"a": _F32, "b": _F32}, bytes(8)),
    "no offsets": _header({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "bytes nobody owns": _header({"a": _F32}, bytes(80)),
}


@pytest.mark.parametrize("what", list(_MALFORMED))
def test_s19_a_malformed_safetensors_header(tmp_path, what):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(_MALFORMED[what])
    refused(path, "damaged|truncated|too long|can not be read|not a model|no PyTorch|more than")


def test_s20_tensors_larger_than_the_file(path, state):
    # One number in the file, ten thousand millions in memory.
    state["head.weight"] = torch.zeros(1).expand(100_000, 100_000)
    torch.save(state, path)
    refused(path, "more than it can hold")


def test_s20_a_zip_that_unpacks_to_far_more(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("w/data/0", bytes(50 * 2**20))
    refused(path, "would unpack to 50")


def test_s20_memory_is_not_taken_for_what_does_not_fit(path, state, monkeypatch):
    torch.save(state, path)
    monkeypatch.setattr("unet_studio.models.foreign.containers.available_memory", lambda: 1000)
    refused(path, "of memory, but 1000 bytes are free")
