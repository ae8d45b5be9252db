"""Model files: what is written comes back; what is damaged is refused with a way out (F60-F72)."""

import json
import struct
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from unet_studio.errors import ModelError
from unet_studio.models.card import ModelCard
from unet_studio.models.files import read_card, read_header, write_model_file
from unet_studio.models.model import load_model, save_model
from unet_studio.models.presets import new_model
from unet_studio.models.store import find_model, list_models


@pytest.fixture(scope="module")
def tiny():
    return new_model("unet-tiny", in_channels=2, representation="objects", licence="CC0-1.0")


@pytest.fixture
def file(tiny, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_model(tiny, path)
    return path


def test_round_trip_is_bit_identical(tiny, file):
    loaded = load_model(file)
    assert loaded.card == tiny.card
    assert not loaded.network.training
    for name, value in tiny.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value)
    assert len(loaded.sha256) == 64


def test_saving_again_gives_the_same_bytes(tiny, file, tmp_path):
    again = tmp_path / "again.safetensors"
    save_model(load_model(file), str(again))
    assert again.read_bytes() == file.read_bytes()


def test_no_partial_file_stays_and_the_old_one_is_replaced(tiny, file):
    save_model(tiny, file)
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_the_format_is_plain_safetensors(file):
    assert "head.weight" in safetensors.torch.load_file(file)


def test_every_flipped_bit_in_the_weights_is_noticed(file):
    content = bytearray(file.read_bytes())
    _, _, start = read_header(file)
    for position in range(start, len(content), len(content) // 23):
        changed = bytearray(content)
        changed[position] ^= 1
        file.write_bytes(changed)
        with pytest.raises(ModelError, match="changed since they were saved"):
            load_model(file)


DAMAGE = {
    "F60 missing": (None, "There is no model file .*models list"),
    "F61 empty": (lambda c: b"", "is empty"),
    "F62 truncated in weights": (lambda c: c[:-1000], "truncated"),
    "F62 truncated in header": (lambda c: c[:200], "not a model file"),
    "F62 truncated in prefix": (lambda c: c[:5], "not a model file"),
    "F63 web page": (lambda c: b"<!DOCTYPE html><html>Sign in</html>", "web page"),
    "F70 pickle": (
        lambda c: b"\x80\x02" + c[:4000],
        "weights that PyTorch saved; `unet-studio models import`",
    ),
    "zip": (
        lambda c: b"PK\x03\x04" + c[:4000],
        "weights that PyTorch saved; `unet-studio models import`",
    ),
    "too long": (lambda c: c + b"x" * 10, "too long"),
    "header length beyond the file": (lambda c: struct.pack("<Q", 2**40) + c[8:], "not a model"),
    "header is no JSON": (lambda c: c[:8] + b"!" * (len(c) - 8), "not a model file"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files_are_refused_by_name(case, file):
    change, message = DAMAGE[case]
    if change is None:
        file.unlink()
    else:
        file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ModelError, match=message) as caught:
        load_model(file)
    assert file.name in str(caught.value)
    with pytest.raises(ModelError):
        read_card(file)


def test_weights_without_a_card_are_refused(file):
    safetensors.torch.save_file({"a": torch.zeros(2)}, file)
    with pytest.raises(ModelError, match="no model card"):
        load_model(file)


def test_a_card_of_the_future_is_refused_with_advice(tiny, file):
    weights = tiny.network.state_dict()
    card = json.loads(tiny.card.model_dump_json()) | {"version": 99}
    safetensors.torch.save_file(weights, file, {"unet_studio_card": json.dumps(card)})
    with pytest.raises(ModelError, match="newer version"):
        load_model(file)


def rewritten(file, tiny, change):
    weights = {k: v.clone() for k, v in tiny.network.state_dict().items()}
    change(weights)
    write_model_file(tiny.card, weights, file)


WRONG_WEIGHTS = {
    "F65 missing": (lambda w: w.pop("head.weight"), "head.weight is missing"),
    "F66 unexpected": (lambda w: w.update(extra=torch.zeros(1)), "extra is not part"),
    "F68 shape": (
        lambda w: w.update({"head.bias": torch.zeros(9)}),
        r"head.bias has shape \(9,\), not \(3,\)",
    ),
    "F72 NaN": (lambda w: w["head.bias"].fill_(float("nan")), "NaN or infinite"),
}


@pytest.mark.parametrize("case", WRONG_WEIGHTS)
def test_weights_that_do_not_fit_are_refused(case, file, tiny):
    change, message = WRONG_WEIGHTS[case]
    rewritten(file, tiny, change)
    with pytest.raises(ModelError, match=message):
        load_model(file)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_F67_prefixes_of_wrappers_are_taken_off_and_named(prefix, file, tiny):
    weights = {prefix + k: v for k, v in tiny.network.state_dict().items()}
    write_model_file(tiny.card, weights, file)
    loaded = load_model(file)
    assert torch.equal(loaded.network.head.weight, tiny.network.head.weight)
    assert repr(prefix) in loaded.notes[0]


@pytest.mark.parametrize("options", [{"widths": ["a", 2]}, {"widths": 5}, {"widths": None}])
def test_cards_whose_options_make_no_network_are_refused(options, file, tiny):
    card = tiny.card.model_copy(update={"options": options})
    write_model_file(card, tiny.network.state_dict(), file)
    with pytest.raises(ModelError, match="do not make a 'unet' network"):
        load_model(file)


def test_a_card_with_another_stride_than_its_network_is_refused(file, tiny):
    card = tiny.card.model_copy(update={"stride": 1})
    write_model_file(card, tiny.network.state_dict(), file)
    with pytest.raises(ModelError, match="stride of 1, but its network pools by 16"):
        load_model(file)


def test_half_precision_weights_are_loaded_as_float32(file, tiny):
    def halve(weights):
        for name, value in weights.items():
            if value.is_floating_point():
                weights[name] = value.half()

    rewritten(file, tiny, halve)
    assert load_model(file).network.head.weight.dtype == torch.float32


def test_store_follows_the_environment(monkeypatch, tmp_path, file):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path / "home"))
    store = tmp_path / "home" / "models"
    store.mkdir(parents=True)
    (store / "mine.safetensors").write_bytes(file.read_bytes())
    (store / "broken.safetensors").write_bytes(b"nothing")
    names = {e.name: e.origin for e in list_models()}
    assert names["mine"] == "store"
    assert "broken" not in names
    assert find_model("mine").path == store / "mine.safetensors"
    with pytest.raises(ModelError, match="broken.safetensors"):
        find_model("broken")


def test_unknown_names_list_the_known(monkeypatch, tmp_path):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="no model called 'nucleus'. Known:"):
        find_model("nucleus")


def test_reading_a_card_does_not_need_torch(file):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from unet_studio.models.files import read_card; "
        "from unet_studio.models.store import list_models; list_models(); "
        f"print(read_card(Path({str(file)!r})).name, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"colour": True, "in_channels": 1}, "3 input channels"),
        ({"representation": "classes", "classes": ("one",)}, "at least two"),
        ({"in_channels": 0}, "greater than or equal to 1"),
    ],
)
def test_contradictory_cards_are_refused(fields, message):
    base = {"name": "x", "architecture": "unet", "in_channels": 1, "representation": "binary"}
    with pytest.raises(ValueError, match=message):
        ModelCard(**(base | fields))


@pytest.mark.parametrize(
    "statement",
    [
        "from unet_studio import load_model; load_model('nuclei')",
        "from unet_studio.models.presets import new_model; new_model('unet-slim')",
    ],
)
def test_having_a_model_does_not_load_the_compiler_of_torch(statement):
    """It takes as long as all of torch, and every first run would wait for it."""
    code = f"import sys; {statement}; print('torch._dynamo' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert ended.stdout.strip() == "False"
