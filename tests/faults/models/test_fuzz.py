"""S04, S11: files changed at random, and expressions in metadata: only our own errors come out."""

from __future__ import annotations

import io
import json
import re
import shutil
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from unet_studio.errors import UNetStudioError
from unet_studio.models.card import ModelCard
from unet_studio.models.files import read_model_file, write_model_file
from unet_studio.models.foreign.containers import read_shapes, read_weights
from unet_studio.models.networks.unet import UNet
from unet_studio.models.zoo.description import parse_description
from unet_studio.models.zoo.importing import import_package
from unet_studio.models.zoo.package import Contents, open_files
from unet_studio.models.zoo.postprocessing import map_postprocessing
from unet_studio.models.zoo.preprocessing import map_preprocessing

CARD = ModelCard(
    name="cells", architecture="unet", options={"widths": [2, 2]}, in_channels=1, stride=2,
    representation="binary",
)  # fmt: skip
# What a change puts in: bytes that mean something to the formats, and any others.
TOKENS = (b"", b"0", b"\x00", b"\xff" * 8, b"PK\x03\x04", b"\x80\x02c", b"{", b"[",
          b"!!python/object:x ",
          b"$import os", b"1e400", b"-1", b"9" * 21, b"null", b"\n- ", b"../")  # fmt: skip
changes = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 12),
        st.one_of(st.sampled_from(TOKENS), st.binary(max_size=6)),
    ),
    max_size=4,
)


def changed(content: bytes, edits) -> bytes:
    """Replace some bytes by others, at shares of the length."""
    for share, taken, put in edits:
        at = int(share * len(content))
        content = content[:at] + put + content[at + taken :]
    return content


def description() -> dict:
    axes = [
        {"type": "batch"},
        {"type": "channel", "channel_names": ["a"]},
        *({"type": "space", "id": a, "size": {"min": 16, "step": 2}} for a in "yx"),
    ]
    return {
        "type": "model", "format_version": "0.5.4", "name": "cells", "license": "CC0-1.0",
        "inputs": [{"id": "image", "axes": axes, "preprocessing": [
            {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"], "eps": 1e-6}},
            {"id": "clip", "kwargs": {"min": -3, "max": 3}}]}],
        "outputs": [{"id": "out", "axes": axes, "postprocessing": [{"id": "sigmoid"}]}],
        "weights": {"pytorch_state_dict": {"source": "weights.pt", "architecture": {
            "source": "net.py", "callable": "Net", "kwargs": {"widths": [2, 2]}}}},
    }  # fmt: skip


def packed(weights: bytes, values: dict) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("rdf.yaml", yaml.safe_dump(values))
        archive.writestr("weights.pt", weights)
    return stream.getvalue()


def read_package(path: Path) -> None:
    with open_files(path) as package:
        contents = Contents(package, path.name, None)
        found = parse_description(contents.values, path.name)
        map_preprocessing(found.input, found.format)
        for entry in found.weights.values():
            contents.read(entry.source, entry.sha256)


READERS = {
    "model.safetensors": read_model_file,
    "foreign.safetensors": read_weights,
    "weights.pt": lambda path: (read_shapes(path), read_weights(path)),
    "legacy.pth": lambda path: (read_shapes(path), read_weights(path)),
    "rdf.yaml": read_package,
    "package.zip": read_package,
}


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """One good file for each reader, by name."""
    folder = tmp_path_factory.mktemp("valid")
    torch.manual_seed(0)
    state = UNet(1, 1, (2, 2)).state_dict()
    write_model_file(CARD, state, folder / "model.safetensors")
    safetensors.torch.save_file(state, folder / "foreign.safetensors")
    torch.save(state, folder / "weights.pt")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    weights = (folder / "weights.pt").read_bytes()
    (folder / "rdf.yaml").write_text(yaml.safe_dump(description()))
    (folder / "package.zip").write_bytes(packed(weights, description()))
    for name, read in READERS.items():
        read(folder / name)  # as they are, all of them are fine
    return folder


def fuzz(name: str, valid: Path, examples: int) -> None:
    content = (valid / name).read_bytes()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shutil.copy(valid / "weights.pt", folder)  # what the description names
        path = folder / name

        @seed(4)
        @settings(max_examples=examples, deadline=None, database=None)
        @given(edits=changes, end=st.one_of(st.none(), st.floats(0, 1)))
        def check(edits, end):
            whole = changed(content, edits)
            path.write_bytes(whole if end is None else whole[: int(end * len(whole))])
            with suppress(UNetStudioError):
                READERS[name](path)
            assert {p.name for p in folder.iterdir()} <= {name, "weights.pt"}, "it wrote a file"

        check()


@pytest.mark.parametrize("name", READERS)
def test_S04_changed_at_random_only_our_errors_come_out(name, valid):
    fuzz(name, valid, 200)


@pytest.mark.parametrize("name", ["weights.pt", "package.zip"])
def test_S04_an_archive_of_a_later_version_of_zip_is_refused(name, valid, tmp_path):
    content = bytearray((valid / name).read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 99  # the version that reading it needs
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UNetStudioError, match=re.escape(str(path))):
        READERS[name](path)


ODD = (
    None, [], {}, "", "$x", "1", -1, 0, 1.5, 2**70, float("nan"), float("inf"), True, [[1]],
    {"a": 1},
)  # fmt: skip


def leaves(values, path=()):
    """Yield the way to every value of a nested description, those that hold others as well."""
    if path:
        yield path
    if isinstance(values, dict | list):
        for key in values if isinstance(values, dict) else range(len(values)):
            yield from leaves(values[key], (*path, key))


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_S04_odd_values_anywhere_in_a_description(odd):
    for path in leaves(description()):
        values = description()
        inner = values
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = odd
        with suppress(UNetStudioError):
            found = parse_description(values, "rdf.yaml")
            map_preprocessing(found.input, found.format)
            map_postprocessing(found.output, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_S04_the_same_ten_thousand_times(name, valid):
    fuzz(name, valid, 10_000)


@pytest.mark.parametrize(
    "expression", ["$__import__('os').mkdir({path!r})", "${{os.mkdir({path!r})}}", "$@import os"]
)
def test_S11_expressions_in_metadata_are_words(expression, canary, valid, tmp_path):
    """MONAI bundles run strings that begin with $; here they are never more than words."""
    text = expression.format(path=canary.path)
    weights = (valid / "weights.pt").read_bytes()
    path = tmp_path / "package.zip"
    run = {"_target_": "os.mkdir", "path": canary.path, "run": text, "imports": [text]}
    card = json.loads(CARD.model_dump_json()) | {"description": text, "training": run}
    values = description() | {"name": text, "config": {"unet_studio": {"card": card}, "x": run}}
    path.write_bytes(packed(weights, values))
    assert import_package(path).card.description == text
    values["config"]["unet_studio"]["card"]["options"] = {"widths": text, **run}
    path.write_bytes(packed(weights, values))
    with pytest.raises(UNetStudioError):
        import_package(path)
    values = description()
    values["inputs"][0]["preprocessing"][0]["kwargs"]["eps"] = text
    path.write_bytes(packed(weights, values))
    with pytest.raises(UNetStudioError, match="zero_mean_unit_variance"):
        import_package(path)


def test_the_changes_do_change(valid):
    content = (valid / "weights.pt").read_bytes()
    assert changed(content, [(0.5, 3, b"abc")]) != content
    assert len(changed(content, [(0.0, 12, b"")])) == len(content) - 12
    assert np.frombuffer(content[:2], "u1").tolist() == [80, 75]
