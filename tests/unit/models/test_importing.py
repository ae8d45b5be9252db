"""Bringing model files into the store, taking them out, and noticing what changed there."""

from __future__ import annotations

import json
import shutil

import pytest

from unet_studio.errors import (
    Cancelled,
    ConsentNeeded,
    DownloadError,
    ModelError,
    RecipeError,
)
from unet_studio.events import CancelToken
from unet_studio.models import consent, ledger
from unet_studio.models.catalogue import entry_of_address
from unet_studio.models.fetching import fetch_model, with_hash
from unet_studio.models.importing import (
    IMPORTERS,
    Importer,
    default_name,
    free_name,
    import_model,
)
from unet_studio.models.model import load_model, save_model
from unet_studio.models.partial import file_sha256
from unet_studio.models.presets import new_model
from unet_studio.models.store import (
    DEFAULT_MODEL,
    list_models,
    models_folder,
    remove_model,
    removed_folder,
    search_models,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two model files that differ."""
    folder = tmp_path_factory.mktemp("files")
    for seed in (0, 1):
        save_model(
            new_model("unet-tiny", seed=seed, name="cells", licence="CC0-1.0"),
            folder / f"cells {seed}.safetensors",
        )
    return sorted(folder.iterdir())


def in_store():
    return sorted(p.name for p in models_folder().iterdir()) if models_folder().exists() else []


def test_a_model_file_is_copied_bit_by_bit_with_a_record(files):
    imported = import_model(files[0], name="mine")
    assert imported.entry.path.read_bytes() == files[0].read_bytes()
    assert imported.entry.name in [m.name for m in list_models()]
    record = ledger.read_record(imported.entry.path)
    assert record.sha256 == file_sha256(files[0])
    assert record.source == str(files[0])
    assert load_model("mine").card.licence == "CC0-1.0"


def test_the_name_is_by_default_that_of_the_file(files):
    assert import_model(files[0]).entry.name == "cells 0"
    assert free_name("cells 0") == "cells 0 2"
    assert default_name(files[0].parent / "a:b?c") == "a_b_c"


@pytest.mark.parametrize("name", ["../up", "a/b", "con", "CON.1", ".hidden", "end.", "a\nb"])
def test_a_name_that_is_none_of_a_file_is_refused(name, files):
    with pytest.raises(ModelError, match="can not be a model's name"):
        import_model(files[0], name=name)
    assert in_store() == []


@pytest.mark.parametrize("name", [DEFAULT_MODEL, DEFAULT_MODEL.upper()])
def test_a_bundled_model_is_not_shadowed(name, files):
    with pytest.raises(ModelError, match="came with U-Net Studio"):
        import_model(files[0], name=name)


def test_a_taken_name_is_refused_and_replaced_only_on_demand(files):
    import_model(files[0], name="mine")
    with pytest.raises(ModelError, match="already a model 'mine'"):
        import_model(files[1], name="mine")
    assert file_sha256(models_folder() / "mine.safetensors") == file_sha256(files[0])
    import_model(files[1], name="mine", replace=True)
    assert file_sha256(models_folder() / "mine.safetensors") == file_sha256(files[1])
    assert load_model("mine").notes == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "."), (b"<!DOCTYPE html><html>", "web page"), (b"\x80\x02}q\x00.", "."), (None, ".")],
)
def test_F60_F63_what_is_no_model_is_named_and_leaves_nothing(content, words, files, tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(files[0].read_bytes()[:-1000] if content is None else content)
    with pytest.raises(ModelError, match=words) as caught:
        import_model(bad)
    assert str(bad) in str(caught.value)
    assert in_store() == []


def test_one_flipped_bit_is_noticed(files, tmp_path):
    content = bytearray(files[0].read_bytes())
    content[-50] ^= 1
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=r"bad\.safetensors"):
        import_model(bad)
    assert in_store() == []


def test_cancel_leaves_nothing(files):
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        import_model(files[0], token=token)
    assert in_store() == []


def test_a_file_put_into_the_folder_is_found_searched_and_used(files):
    models_folder().mkdir(parents=True)
    shutil.copy(files[0], models_folder() / "hand.safetensors")
    assert [m.name for m in search_models("HAND cc0")] == ["hand"]
    assert search_models("hand cc0 purple") == []
    assert load_model("hand").notes == ()
    assert ledger.read_record(models_folder() / "hand.safetensors").source == ""


def test_F64_a_changed_file_is_told_once_and_a_fetched_one_refused(files):
    imported = import_model(files[0], name="mine")
    load_model("mine")
    shutil.copy(files[1], imported.entry.path)
    assert any("has changed since" in note for note in load_model("mine").notes)
    assert load_model("mine").notes == ()
    import_model(files[0], name="fetched", published=True)
    shutil.copy(files[1], models_folder() / "fetched.safetensors")
    with pytest.raises(ModelError, match="changed since it was fetched"):
        load_model("fetched")


def test_a_record_that_is_rubbish_is_made_anew(files):
    path = import_model(files[0], name="mine").entry.path
    ledger.record_path(path).write_text("{")
    assert load_model("mine").notes == ()
    assert json.loads(ledger.record_path(path).read_text())["sha256"] == file_sha256(path)


def test_removing_moves_file_and_record(files):
    path = import_model(files[0], name="mine").entry.path
    moved = remove_model("mine")
    assert in_store() == []
    assert moved.read_bytes() == files[0].read_bytes()
    assert ledger.record_path(moved).is_file()
    assert moved.is_relative_to(removed_folder())
    import_model(moved)  # nothing is lost
    with pytest.raises(ModelError, match="no model 'other'"):
        remove_model("other")
    with pytest.raises(ModelError, match="can not be removed"):
        remove_model(DEFAULT_MODEL)
    with pytest.raises(ModelError, match="no model"):
        remove_model(f"../models/{path.stem}")


# -- fetched before? -------------------------------------------------------------


def test_what_was_fetched_is_known_by_its_whole_address(files, web):
    """A server may tell versions apart after the question mark alone."""
    web.pages["/cells.safetensors?version=1"] = web.page(files[0].read_bytes())
    web.pages["/cells.safetensors?version=2"] = web.page(files[1].read_bytes())
    first = entry_of_address(web.url("/cells.safetensors?version=1"))
    second = entry_of_address(web.url("/cells.safetensors?version=2"))
    imported = fetch_model(first)
    asked = len(web.requests)
    assert fetch_model(first).notes == ("It is already here.",)
    assert len(web.requests) == asked
    with pytest.raises(ModelError, match="already a model"):
        fetch_model(second)  # not: "it is already here"
    assert imported.entry.path.read_bytes() == files[0].read_bytes()
    assert fetch_model(second, name="newer").entry.path.read_bytes() == files[1].read_bytes()
    assert "version" not in ledger.record_path(imported.entry.path).read_text()


def test_what_was_fetched_is_known_by_its_hash_if_one_is_given(files, web):
    web.pages["/cells.safetensors"] = web.page(files[0].read_bytes())
    entry = entry_of_address(web.url("/cells.safetensors"))
    fetch_model(entry)
    right, wrong = (with_hash(entry, file_sha256(file)) for file in files)
    assert fetch_model(right).notes == ("It is already here.",)
    with pytest.raises(ModelError, match="already a model"):
        fetch_model(wrong)
    with pytest.raises(DownloadError, match="SHA-256"):
        with_hash(entry, "abc")


# -- choices -----------------------------------------------------------------------


@pytest.fixture
def foreign(tmp_path):
    """Weights that another program saved."""
    import torch

    from unet_studio.models.networks.unet import UNet

    torch.save(UNet(1, 1, (4, 8, 16)).state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clases": "cell"}, "clases=.* is not known. Was classes="),
        ({"normalization": "zscore"}, "Was normalisation="),
        ({"license": "CC0-1.0"}, "Was licence="),
        ({"widht": "3"}, "'unet' has no option 'widht'"),
        ({"voxel_size": "big,small"}, "voxel_size"),
    ],
)
def test_a_choice_that_nothing_takes_is_an_error(foreign, options, words):
    with pytest.raises(ModelError, match=words):
        import_model(foreign, options=options)
    assert in_store() == []
    assert import_model(foreign, options={"classes": "cell"}).entry.card.classes == ("cell",)


def test_choices_for_a_model_file_are_refused_rather_than_ignored(files):
    with pytest.raises(RecipeError, match="classes can not be set"):
        import_model(files[0], options={"classes": "cell"})
    with pytest.raises(RecipeError, match="give yes or no"):
        import_model(files[0], options={"allow_torchscript": "perhaps"})
    assert in_store() == []
    assert import_model(files[0], options={"allow_torchscript": "yes"}).entry.name == "cells 0"


# -- consent -----------------------------------------------------------------------


@pytest.fixture
def program(tmp_path):
    """A model file that holds TorchScript."""
    import torch

    from unet_studio.models.card import ModelCard
    from unet_studio.models.files import write_model_file
    from unet_studio.models.networks.embedded import embed
    from unet_studio.models.zoo.programs import torchscript_program

    code = torchscript_program(new_model("unet-tiny", seed=3))
    card = ModelCard(name="program", architecture="torchscript", in_channels=1,
                     representation="objects", halo=0)  # fmt: skip
    content = {"content": torch.frombuffer(bytearray(code), dtype=torch.uint8)}
    write_model_file(embed(card, code), content, tmp_path / "program.safetensors")
    return tmp_path / "program.safetensors"


def test_S12_a_model_file_with_a_program_runs_after_consent_alone(program):
    from unet_studio.errors import ConsentNeeded

    entry = import_model(program).entry
    assert consent.needs_consent(entry.path)
    with pytest.raises(ConsentNeeded, match="was not run.*press Allow.*allow_torchscript=yes"):
        load_model(entry.name).network.ready()
    again = import_model(program, name="again", options={"allow_torchscript": "yes"}).entry
    assert not consent.needs_consent(again.path)
    assert not consent.needs_consent(entry.path), "these very bytes, whatever their name"
    load_model(entry.name).network.ready()


def test_S12_consent_is_for_these_very_bytes(program, tmp_path):
    import torch

    from unet_studio.models.files import read_model_file, write_model_file

    consent.allow_file(program, "program")
    assert not consent.needs_consent(program)
    card, weights, _ = read_model_file(program)
    changed = weights["content"].clone()
    changed[-1] ^= 1
    other = tmp_path / "other.safetensors"
    write_model_file(card, {"content": torch.as_tensor(changed)}, other)
    assert consent.needs_consent(other)


def test_models_that_are_no_programs_need_no_consent(files):
    assert not consent.needs_consent(files[0])
    consent.allow_file(files[0], "cells")
    assert not consent.consent_path().exists()


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("It has no weights. Get it again.", "{path}: It has no weights. Get it again."),
        (
            "cells.weights has no weights. Get it again.",
            "cells.weights has no weights. Get it again.",
        ),
    ],
)
def test_an_import_that_fails_names_its_file_once(tmp_path, monkeypatch, told, shown):
    def convert(_request):
        raise ConsentNeeded(told)

    part = Importer("a file of this test", (".weights",), lambda _: True, convert)
    monkeypatch.setattr(IMPORTERS, "load", lambda _name: part)
    path = tmp_path / "cells.weights"
    path.write_bytes(b"0")
    with pytest.raises(ConsentNeeded) as caught:  # the kind of error is kept
        import_model(path, importer="of this test")
    assert str(caught.value) == shown.format(path=path)
