"""``unet-studio segment`` on real files."""

from __future__ import annotations

import csv
import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_studio import read_image, segment
from unet_studio.axes import Axes
from unet_studio.images.writers import write_array


def picture(shape=(40, 48), seed=1, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)


def hashes(folder: Path) -> dict[str, str]:
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture
def grey(tmp_path):
    path = tmp_path / "cells.v2.tif"
    tifffile.imwrite(path, picture())
    return path


@pytest.fixture
def mixed(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(folder / "good.tif", picture(), compression="lzw")
    Image.fromarray(picture((40, 48, 3))).save(folder / "colour.png")
    write_array(picture((4, 40, 48)), Axes("ZYX", (2, 1, 1)), folder / "stack.ome.zarr")
    write_array(picture((4, 40, 48)), Axes("ZYX", (2, 1, 1)), folder / "brain.nii.gz")
    (folder / "broken.tif").write_bytes(b"not an image at all")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("ignored")
    (folder / ".hidden.tif").write_bytes(b"ignored")
    return folder


def test_one_image_gives_labels_table_and_record(unet_studio, grey, tiny_model, tmp_path):
    before = hashes(tmp_path)
    output = tmp_path / "results"
    ended = unet_studio("segment", grey, "--model", tiny_model, "-o", output)
    assert ended.code == 0, ended.err
    assert {p.name for p in output.iterdir()} == {
        "cells.v2_labels.tif", "cells.v2_labels.tif.json", "cells.v2_objects.csv",
    }  # fmt: skip
    assert {p: h for p, h in hashes(tmp_path).items() if p in before} == before

    expected = segment(grey, str(tiny_model))
    labels = tifffile.imread(output / "cells.v2_labels.tif")
    np.testing.assert_array_equal(labels, expected.labels)
    rows = list(csv.DictReader((output / "cells.v2_objects.csv").read_text().splitlines()))
    assert [int(row["label"]) for row in rows] == list(range(1, labels.max() + 1))
    assert [int(row["pixels"]) for row in rows] == np.bincount(labels.ravel())[1:].tolist()
    assert f"{labels.max()} object" in ended.out
    assert str(output / "cells.v2_labels.tif") in ended.out


def test_the_record_says_what_was_run(unet_studio, grey, tiny_model, tmp_path):
    unet_studio(
        "segment", grey, "-m", tiny_model, "-o", tmp_path / "r",
        "--device", "cpu", "--tile", 512, "--set", "min_size=3", "--set", "diagonal=true",
    )  # fmt: skip
    record = json.loads((tmp_path / "r" / "cells.v2_labels.tif.json").read_text())
    assert record["model"]["sha256"] == hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    assert record["model"]["licence"] == "CC0-1.0"
    assert record["recipe"]["tiling"]["tile"] == 512
    assert record["objects"]["method"] == "components"
    assert record["objects"]["options"]["min_size"] == 3
    assert record["objects"]["options"]["diagonal"] is True
    assert record["image"]["shape"] == [40, 48]
    assert record["device"] == "cpu"
    assert record["input"] == str(grey)
    assert record["outputs"] == ["cells.v2_labels.tif", "cells.v2_objects.csv"]
    assert record["versions"]["napari-unet-studio"]


def test_a_back_end_can_be_asked_for(unet_studio, grey, tiny_model, tmp_path, monkeypatch):
    common = ("segment", grey, "-m", tiny_model, "-o", tmp_path / "r", "--backend")
    found = {}
    for backend in ("torch", "openvino"):
        assert unet_studio(*common, backend).code == 0
        record = json.loads((tmp_path / "r" / "cells.v2_labels.tif.json").read_text())
        assert record["backend"] == record["recipe"]["backend"] == backend
        assert record["numerics"]["why"]
        found[backend] = tifffile.imread(tmp_path / "r" / "cells.v2_labels.tif")
    np.testing.assert_array_equal(found["torch"], found["openvino"])

    from unet_studio.inference import choice

    monkeypatch.setattr(choice, "has_openvino", lambda: False)
    ended = unet_studio(*common, "openvino")
    assert ended.code == 1
    assert "not installed" in ended.err
    assert "[cpu]" in ended.err
    assert unet_studio(*common, "openvino", "--device", "cuda").code == 1


def test_options_change_the_result(unet_studio, grey, tiny_model, tmp_path):
    common = ("segment", grey, "-m", tiny_model, "-o", tmp_path / "r", "--set")
    assert unet_studio(*common, "threshold=0", "--set", "min_size=0").code == 0
    everything = tifffile.imread(tmp_path / "r" / "cells.v2_labels.tif")
    assert unet_studio(*common, "threshold=1").code == 0
    nothing = tifffile.imread(tmp_path / "r" / "cells.v2_labels.tif")
    assert everything.all()
    assert not nothing.any()


def test_a_folder_of_good_and_broken_files(unet_studio, mixed, tiny_model, tmp_path):
    before, output = hashes(mixed), tmp_path / "results"
    ended = unet_studio("segment", mixed, "-m", tiny_model, "-o", output)
    assert ended.code == 2
    last = ended.err.strip().splitlines()[-1]
    assert "2 of 6 images failed" in last
    assert "broken.tif" in last
    assert "empty.png" in last
    labels = {p.name for p in output.iterdir() if "_labels." in p.name and p.suffix != ".json"}
    assert labels == {
        "good_labels.tif", "colour_labels.png", "stack_labels.ome.zarr", "brain_labels.nii.gz",
    }  # fmt: skip
    assert read_image(output / "stack_labels.ome.zarr").array.shape == (4, 40, 48)
    assert read_image(output / "brain_labels.nii.gz").info.length("Z") == 4
    assert hashes(mixed) == before


def test_running_again_replaces_the_results(unet_studio, mixed, tiny_model, tmp_path):
    output = tmp_path / "results"
    unet_studio("segment", mixed, "-m", tiny_model, "-o", output)
    first = {p.name: tifffile.imread(p) for p in output.glob("*.tif")}
    names = sorted(p.name for p in output.iterdir())
    assert unet_studio("segment", mixed, "-m", tiny_model, "-o", output).code == 2
    assert sorted(p.name for p in output.iterdir()) == names
    for name, labels in first.items():
        np.testing.assert_array_equal(tifffile.imread(output / name), labels)


def test_results_beside_their_images_are_no_images(unet_studio, tiny_model, tmp_path):
    for name in ("a.png", "b.jpg"):
        Image.fromarray(picture()).save(tmp_path / name)
    tifffile.imwrite(tmp_path / "a.tif", picture(seed=2))
    tifffile.imwrite(tmp_path / "x.tif", picture(seed=3))
    tifffile.imwrite(tmp_path / "x_labels.tif", picture(seed=4))  # the user's own
    arguments = ("segment", tmp_path, "-m", tiny_model, "-o", tmp_path, "--probabilities")
    ended = unet_studio(*arguments)
    assert ended.code == 0, ended.err
    assert "x_labels.tif: " in ended.out
    names = sorted(p.name for p in tmp_path.iterdir())
    again = unet_studio(*arguments)
    assert again.code == 0, again.err
    assert "10 results of earlier runs left out" in again.out
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_a_folder_of_results_only_can_not_start(unet_studio, grey, tiny_model, tmp_path):
    assert unet_studio("segment", grey, "-m", tiny_model, "-o", tmp_path / "r").code == 0
    ended = unet_studio("segment", tmp_path / "r", "-m", tiny_model, "-o", tmp_path / "s")
    assert ended.code == 1
    assert "holds no image but 1 result" in " ".join(ended.err.split())


def test_all_results_of_inputs_of_one_stem_are_kept(unet_studio, tiny_model, tmp_path):
    for number, name in enumerate(("a.png", "a.tif", "a.ome.tif")):
        save = tifffile.imwrite if "tif" in name else lambda p, i: Image.fromarray(i).save(p)
        save(tmp_path / name, picture((40 + number, 48), number))
    ended = unet_studio(
        "segment", tmp_path, "-m", tiny_model, "-o", tmp_path / "r", "--probabilities"
    )
    assert ended.code == 0, ended.err
    records = [json.loads(p.read_text()) for p in (tmp_path / "r").glob("*.json")]
    listed = [name for record in records for name in record["outputs"]]
    assert len(listed) == len(set(listed)) == 9
    for record in records:
        labels, _, likely = (tmp_path / "r" / name for name in record["outputs"])
        assert list(read_image(labels).info.shape) == record["image"]["shape"]
        assert read_image(likely).read().shape[1:] == tuple(record["image"]["shape"])


def test_leftovers_of_a_killed_run_are_removed(unet_studio, grey, tiny_model, tmp_path):
    output = tmp_path / "r"
    output.mkdir()
    killed = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sys, time, pathlib\n"
            "from unet_studio.images.atomic import atomic_file, atomic_folder\n"
            f"folder = pathlib.Path({str(output)!r})\n"
            "with atomic_file(folder / 'a.tif'), "
            "atomic_folder(folder / 'b.zarr', replaceable=False) as b:\n"
            "    (b / 'chunk').write_text('x')\n"
            "    print('writing', flush=True)\n"
            "    time.sleep(60)\n",
        ],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "writing\n"
        common = ("segment", grey, "-m", tiny_model, "-o", output)
        assert unet_studio(*common).code == 0
        assert len(list(output.glob("*.partial-*"))) == 2  # still being written
    finally:
        killed.kill()
        killed.communicate()
    assert len(list(output.glob("*.partial-*"))) == 2
    assert unet_studio(*common).code == 0
    assert not list(output.glob("*.partial-*"))
    assert (output / "cells.v2_labels.tif").exists()


def test_probabilities_are_written_where_asked(unet_studio, grey, tiny_model, tmp_path):
    unet_studio("segment", grey, "-m", tiny_model, "-o", tmp_path / "r", "--probabilities")
    written = read_image(tmp_path / "r" / "cells.v2_probabilities.tif").read()
    assert written.shape == (1, 40, 48)
    assert 0 <= written.min() < written.max() <= 1


def test_two_images_of_one_name_do_not_share_results(unet_studio, tiny_model, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(picture()).save(tmp_path / folder / "x.png")
    ended = unet_studio(
        "segment", tmp_path / "a", tmp_path / "b", "-m", tiny_model, "-o", tmp_path / "r"
    )
    assert ended.code == 0
    assert len(list((tmp_path / "r").glob("*_labels.png"))) == 2


def test_ambiguous_axes_are_asked_for(unet_studio, tiny_model, tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", picture((5, 40, 48)))
    common = ("segment", tmp_path / "stack.tif", "-m", tiny_model, "-o", tmp_path / "r")
    ended = unet_studio(*common)
    assert ended.code == 2
    assert "--axes ZYX" in ended.err
    assert "stack.tif" in ended.err
    assert not list((tmp_path / "r").iterdir())
    assert unet_studio(*common, "--axes", "tyx").code == 0
    record = json.loads((tmp_path / "r" / "stack_labels.tif.json").read_text())
    assert record["image"]["axes"] == "TYX"


def test_a_name_with_markup_is_shown_as_text(unet_studio, tiny_model, tmp_path):
    tifffile.imwrite(tmp_path / "[red]a.tif", picture())
    ended = unet_studio("segment", tmp_path / "[red]a.tif", "-m", tiny_model, "-o", tmp_path / "r")
    assert ended.code == 0
    assert "[red]a.tif" in ended.out


def test_a_defect_in_one_image_leaves_the_others(
    unet_studio, mixed, tiny_model, tmp_path, monkeypatch
):
    import unet_studio.cli.segment as command

    real = command.segment_file

    def failing(source, *rest, **options):
        if source.name == "good.tif":
            raise KeyError("surprise")
        return real(source, *rest, **options)

    monkeypatch.setattr(command, "segment_file", failing)
    ended = unet_studio("segment", mixed, "-m", tiny_model, "-o", tmp_path / "r")
    assert ended.code == 2
    assert "good.tif: KeyError: 'surprise'" in ended.err
    assert "report" in ended.err
    assert (tmp_path / "r" / "colour_labels.png").exists()


@pytest.mark.parametrize(
    ("arguments", "helpful"),
    [
        (["--model", "nucleii"], "There is no model called 'nucleii'"),
        (["--model", "missing/m.safetensors"], "missing/m.safetensors"),
        (["--model", "random:unet-huge"], "There is no preset 'unet-huge'"),
        (["--set", "min_sise=3"], "There is no option 'min_sise'. Its options are: threshold"),
        (["--set", "threshold=7"], "threshold: Input should be less than or equal to 1"),
        (["--set", "threshold"], "NAME=VALUE"),
        (["--method", "watersched"], "Known: threshold, argmax, components, watershed"),
        (["--axes", "QYX"], "hold Q"),
        (["--channels", "red"], "write 0 or 0,1,2"),
        (["--tile", "3"], "tile"),
        (["--device", "toaster"], "Use auto, cpu"),
        (["--bogus"], "--bogus"),
    ],
)
def test_what_can_not_start_says_why(unet_studio, grey, tiny_model, tmp_path, arguments, helpful):
    model = [] if "--model" in arguments else ["-m", tiny_model]
    ended = unet_studio("segment", grey, "-o", tmp_path / "r", *model, *arguments)
    assert ended.code == 1
    assert helpful in " ".join(ended.err.split())
    assert not list(tmp_path.glob("r/*"))


def test_a_missing_image_or_an_empty_folder_can_not_start(unet_studio, tiny_model, tmp_path):
    (tmp_path / "nothing").mkdir()
    for name in ("nowhere.tif", "nothing"):
        ended = unet_studio("segment", tmp_path / name, "-m", tiny_model, "-o", tmp_path / "r")
        assert ended.code == 1
        assert name in ended.err


def test_an_output_that_is_a_file_can_not_start(unet_studio, grey, tiny_model):
    before = grey.read_bytes()
    ended = unet_studio("segment", grey, "-m", tiny_model, "-o", grey)
    assert ended.code == 1
    assert "is a file" in ended.err
    assert grey.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_stopping_it_leaves_no_partial_file(tiny_model, tmp_path, number, code):
    images, output = tmp_path / "images", tmp_path / "results"
    images.mkdir()
    for index in range(300):
        tifffile.imwrite(images / f"{index:03}.tif", picture((256, 256), index))
    before = hashes(images)
    arguments = ["segment", images, "-m", tiny_model, "-o", output]
    process = subprocess.Popen(
        [sys.executable, "-m", "unet_studio", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert "000.tif" in process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    assert "What was finished is kept" in err
    assert "Traceback" not in err
    assert not list(output.glob("*.partial-*"))
    records = list(output.glob("*.json"))
    assert 0 < len(records) < 300
    for record in records:
        named = json.loads(record.read_text())["outputs"]
        assert named
        assert all((output / name).is_file() for name in named)
    assert hashes(images) == before


def test_files_as_the_channels_of_one_image(unet_studio, tmp_path):
    from unet_studio import read_image, segment
    from unet_studio.models.model import load_model, save_model
    from unet_studio.models.presets import new_model

    model = tmp_path / "two.safetensors"
    save_model(new_model("unet-tiny", in_channels=2, representation="binary"), model)
    rng = np.random.default_rng(0)
    for name in ("flair", "t1"):
        tifffile.imwrite(tmp_path / f"{name}.tif", rng.integers(0, 99, (40, 44), dtype=np.uint8))
    files = [tmp_path / "t1.tif", tmp_path / "flair.tif"]
    ended = unet_studio("segment", *files, "-m", model, "-o", tmp_path / "r", "--as-channels")
    assert ended.code == 0, ended.err
    assert not (tmp_path / "r" / "flair_labels.tif").exists()
    stack = np.stack([read_image(f).read()[0] for f in files])
    expected = segment(stack, load_model(model), axes="CYX").labels
    found = tifffile.imread(tmp_path / "r" / "t1_labels.tif")
    np.testing.assert_array_equal(found, expected)
    record = json.loads((tmp_path / "r" / "t1_labels.tif.json").read_text())
    assert record["further_inputs"] == [str(files[1])]
    tifffile.imwrite(files[1], np.zeros((40, 45), np.uint8))
    ended = unet_studio("segment", *files, "-m", model, "-o", tmp_path / "q", "--as-channels")
    assert ended.code == 2
    assert "does not lie on" in ended.err
