"""What a batch consists of, and where its results go."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from unet_studio.axes import Axes
from unet_studio.batch.items import Item, find_items
from unet_studio.batch.targets import plan_targets
from unet_studio.errors import ImageError
from unet_studio.images.readers import read_image
from unet_studio.images.writers import beside_labels, write_array

GREY = np.zeros((16, 16), np.uint8)


def tiff(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, GREY)
    return path


def names(*inputs, output="/nowhere") -> list[str]:
    return [item.name for item in find_items(inputs, Path(output)).items]


def test_folders_are_descended_into_and_mirrored(tmp_path):
    for name in ("b.tif", "sub/deep/a.tif", "sub/a.tif", ".hidden/x.tif", "a.tif"):
        tiff(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert names(tmp_path / "in") == ["a.tif", "b.tif", "sub/a.tif", "sub/deep/a.tif"]


def test_globs_lists_and_several_folders(tmp_path):
    for name in ("x/a.tif", "x/b.tif", "y/x/a.tif"):
        tiff(tmp_path / name)
    assert names(f"{tmp_path}/**/a.tif") == ["x/a.tif", "y/x/a.tif"]
    assert names(tmp_path / "x", tmp_path / "y" / "x") == ["x/a.tif", "x/b.tif", "x_2/a.tif"]
    (tmp_path / "list.txt").write_text("x/b.tif\n\ny/**/*.tif\n")
    assert names(f"@{tmp_path}/list.txt") == ["x/b.tif", "y/x/a.tif"]
    with pytest.raises(ImageError, match="Nothing is called like"):
        names(f"{tmp_path}/*.png")
    with pytest.raises(ImageError, match="There is no file or folder"):
        names(tmp_path / "gone.tif")


def test_lines_of_a_list_that_can_not_be_used_are_named_and_the_rest_is_done(tmp_path):
    folder = tmp_path / "data [1]"
    for name in ("a.tif", "sub/b.tif", "@c.tif"):
        tiff(folder / name)
    lines = [
        "# images of Monday",
        "a.tif",
        "",
        "gone.tif",
        "  sub/*.tif ",
        "no/*.tif",
        "@list.txt",
    ]
    (folder / "more.txt").write_text("\n".join([*lines, "@other.txt", "@c.tif"]))
    found = find_items([f"@{folder}/more.txt"], folder / "sub")
    assert [item.name for item in found.items] == ["a.tif", "sub/b.tif", "@c.tif"]
    texts = [text for _, text in found.problems]
    where = f"{folder / 'more.txt'}, line "
    assert [text.removeprefix(where).split(":")[0] for text in texts] == ["4", "6", "7", "8"]
    assert "gone.tif" in texts[0]
    assert "Nothing is called like" in texts[1]
    assert all("A list can not name another one" in text for text in texts[2:])


def result_of(image: Path, folder: Path) -> Path:
    """A result as a run leaves it, with its record."""
    labels = tiff(folder / f"{image.stem}_labels.tif")
    record = {
        "versions": {"napari-unet-studio": "1"}, "outputs": [labels.name], "input": str(image),
    }  # fmt: skip
    labels.with_name(labels.name + ".json").write_text(json.dumps(record))
    return labels


@pytest.mark.parametrize("out", ["raw", "raw/out", "elsewhere"])
@pytest.mark.parametrize("pattern", ["raw/**/*.tif", "raw/**/*", "raw/*", "**/*.tif", "r*/**"])
def test_patterns_take_no_results_and_nothing_but_images(tmp_path, out, pattern):
    image = tiff(tmp_path / "raw" / "a.tif")
    result_of(image, tmp_path / out)
    tiff(tmp_path / "raw" / "out" / "unfinished_labels.tif")
    (tmp_path / "raw" / "notes.txt").write_text("no image")
    os.mkfifo(tmp_path / "raw" / "pipe.tif")
    found = find_items([f"{tmp_path}/{pattern}"], tmp_path / "raw" / "out").items
    assert [item.path for item in found] == [image]


def test_results_that_are_named_are_left_out_and_counted(tmp_path):
    image = tiff(tmp_path / "raw" / "a.tif")
    labels = result_of(image, tmp_path / "raw")
    (tmp_path / "raw" / "notes.txt").write_text("no image")
    named = sorted((tmp_path / "raw").glob("*.t*"))
    assert labels in named  # a shell writes a pattern out like this
    found = find_items(named, tmp_path / "raw")
    assert [item.path for item in found.items] == [image, tmp_path / "raw" / "notes.txt"]
    assert found.results == 1
    with pytest.raises(ImageError, match="but 1 results of earlier runs"):
        find_items([labels], tmp_path / "raw")


def test_a_pattern_may_begin_in_the_output_or_in_a_store(tmp_path):
    tiff(tmp_path / "raw" / "sub" / "a.tif")
    assert names(f"{tmp_path}/raw/**/*.tif", output=tmp_path / "raw") == ["a.tif"]
    write_array(GREY, Axes("YX"), tmp_path / "p.ome.zarr")
    (tmp_path / "p.ome.zarr").rename(tmp_path / "0")
    (tmp_path / "plate.zarr" / "A").mkdir(parents=True)
    (tmp_path / "plate.zarr" / ".zattrs").write_text("{}")
    (tmp_path / "0").rename(tmp_path / "plate.zarr" / "A" / "0")
    assert names(f"{tmp_path}/*.zarr/A/?") == ["0.ome.zarr"]
    with pytest.raises(ImageError, match="Nothing is called like"):
        names(f"{tmp_path}/**/0")  # what is in a store are its own affairs


def test_a_pattern_ends_where_links_go_round(tmp_path):
    tiff(tmp_path / "in" / "sub" / "a.tif")
    for link in "xyz":
        (tmp_path / "in" / link).symlink_to(tmp_path / "in")
    (tmp_path / "in" / "same").symlink_to(tmp_path / "in" / "sub")
    assert len(names(f"{tmp_path}/in/**/*.tif")) == 1
    assert len(names(f"{tmp_path}/in/**/**/a.tif")) == 1


def test_an_image_that_is_named_twice_is_done_once(tmp_path):
    tiff(tmp_path / "a.tif")
    assert len(names(tmp_path, tmp_path / "a.tif", f"{tmp_path}/*.tif")) == 1


def test_no_two_items_share_a_name(tmp_path):
    for name in ("p/x/a.tif", "q/x/a.tif", "q/x/a_2.tif", "q/b.tif"):
        tiff(tmp_path / name)
    loose = sorted(p for p in (tmp_path / "q").rglob("*.tif"))
    found = find_items([tmp_path / "p" / "x", *loose], Path("/nowhere")).items
    assert {i.name: i.path for i in found} == {
        "x/a.tif": tmp_path / "p/x/a.tif",
        "b.tif": tmp_path / "q/b.tif",
        "x/a_3.tif": tmp_path / "q/x/a.tif",
        "x/a_2.tif": tmp_path / "q/x/a_2.tif",
    }
    assert len(set(plan_targets(found, tmp_path / "out").values())) == 4


def test_loops_fifos_and_dangling_links_do_no_harm(tmp_path):
    root = tmp_path / "in"
    tiff(root / "a.tif")
    (root / "loop").symlink_to(root)
    (root / "up").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.tif")
    (root / "gone.tif").symlink_to(tmp_path / "nothing.tif")
    # A dangling link is an image that is missing: it is reported by reading it.
    assert names(root) == ["a.tif", "gone.tif"]


def test_the_output_below_the_input_is_no_input(tmp_path):
    tiff(tmp_path / "a.tif")
    tiff(tmp_path / "out" / "x.tif")
    assert names(tmp_path, output=tmp_path / "out") == ["a.tif"]


def test_every_image_of_an_ome_tiff_is_an_item(tmp_path):
    with tifffile.TiffWriter(tmp_path / "two.ome.tif") as file:
        file.write(GREY)
        file.write(np.zeros((8, 24), np.uint8))
    items = find_items([tmp_path], Path("/nowhere")).items
    assert [(i.name, i.series) for i in items] == [
        ("two_series0.ome.tif", 0), ("two_series1.ome.tif", 1),
    ]  # fmt: skip


def spread(folder: Path, names: str, holders: str) -> None:
    """Write an OME-TIFF of one plane in each file, which ``holders`` describe whole."""
    ids = {n: f"urn:uuid:00000000-0000-0000-0000-00000000000{n}" for n in names}
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{n}.ome.tif">{ids[n]}'
        "</UUID></TiffData>"
        for z, n in enumerate(names)
    )
    for name in names:
        head = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="%s">'
        image = (
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
            f'SizeX="16" SizeY="16" SizeZ="{len(names)}" SizeC="1" SizeT="1">{planes}</Pixels>'
            "</Image>"
        )
        if name not in holders:
            image = f'<BinaryOnly MetadataFile="{holders}.ome.tif" UUID="{ids[holders]}"/>'
        described = (head % ids[name] + image + "</OME>").encode()
        path = folder / f"{name}.ome.tif"
        tifffile.imwrite(path, GREY, description=described, metadata=None)


@pytest.mark.parametrize(("holders", "first"), [("123", "1"), ("3", "3")])
def test_an_ome_tiff_of_several_files_is_one_item(tmp_path, holders, first):
    spread(tmp_path, "123", holders)
    tiff(tmp_path / "other.tif")
    found = find_items([tmp_path], Path("/nowhere"))
    assert [item.name for item in found.items] == [f"{first}.ome.tif", "other.tif"]
    assert read_image(found.items[0].path).info.shape == (3, 16, 16)
    assert found.parts == 2
    named = find_items([tmp_path / f"{holders[-1]}.ome.tif"], Path("/nowhere"))
    assert ([item.name for item in named.items], named.parts) == ([f"{holders[-1]}.ome.tif"], 0)


def test_every_image_of_a_plain_tiff_is_an_item_and_its_thumbnail_is_none(tmp_path):
    with tifffile.TiffWriter(tmp_path / "p.tif") as file:
        for shape in ((16, 16), (16, 16), (8, 24)):
            file.write(np.zeros(shape, np.uint8), metadata=None)
        file.write(np.zeros((4, 5), np.uint8), metadata=None, subfiletype=1)
    items = find_items([tmp_path], Path("/nowhere")).items
    assert [(i.name, i.series) for i in items] == [("p_series0.tif", 0), ("p_series1.tif", 1)]
    found = [read_image(item.path, series=item.series).info.shape for item in items[1:]]
    assert found == [(8, 24)]


def test_every_field_of_a_plate_is_an_item(tmp_path):
    import zarr

    store = tmp_path / "p.ome.zarr"
    plate = zarr.open_group(str(store), mode="w", zarr_format=3)
    wells = [{"path": f"{r}/1", "rowIndex": i, "columnIndex": 0} for i, r in enumerate("AB")]
    plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": wells}}
    for row in "AB":
        well = plate.create_group(f"{row}/1")
        well.attrs["ome"] = {"well": {"images": [{"path": "0"}, {"path": "1"}]}}
        for field in "01":
            write_array(GREY, Axes("YX"), tmp_path / "image.ome.zarr")
            (tmp_path / "image.ome.zarr").rename(store / row / "1" / field)
    found = find_items([tmp_path], Path("/nowhere")).items
    expected = ["p/A/1/0.zarr", "p/A/1/1.zarr", "p/B/1/0.zarr", "p/B/1/1.zarr"]
    assert [item.name for item in found] == expected
    assert [item.path for item in found][-1] == store / "B" / "1" / "1"


def items_of(paths: list[str]) -> list[Item]:
    return [
        Item(Path("/in", p), tuple(p.split("/")[:-1]), Path(p).stem, Path(p).suffix)
        for p in dict.fromkeys(paths)
    ]


part = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6
).filter(lambda s: s not in (".", ".."))
stems = part | st.sampled_from(["a", "A", "a_labels", "a_2", "é", "é", "x" * 245])
paths = st.builds(
    lambda folder, stem, suffix: "/".join([*folder, stem + suffix]),
    st.lists(st.sampled_from("st"), max_size=1),
    stems,
    st.sampled_from([".tif", ".png", ".jpg", ".TIF", ".ome.zarr"]),
)


def folded(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


@given(st.lists(paths, min_size=1, max_size=8), st.sampled_from(["/out", "/in"]))
def test_P21_no_two_items_share_a_place_and_none_is_an_input(given_paths, output):
    items = items_of(given_paths)
    targets = plan_targets(items, Path(output))
    written = [
        folded(p)
        for t in targets.values()
        for p in (t, t.with_name(t.name + ".tif"), beside_labels(t, "objects", ".csv"))
    ]
    assert len(set(written)) == len(written)
    assert not set(written) & {folded(item.path) for item in items}
    assert list(targets) == items
    for target in targets.values():
        assert len(os.fsencode(target.name + ".json")) <= 255


def test_P21_the_tree_is_mirrored():
    items = items_of(["s/a.tif", "a.png", "a.tif", "t/a.tif"])
    assert [str(t) for t in plan_targets(items, Path("/out")).values()] == [
        "/out/s/a_labels.tif", "/out/a_png_labels.png", "/out/a_tif_labels.tif",
        "/out/t/a_labels.tif",
    ]  # fmt: skip
