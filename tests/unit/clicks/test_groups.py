"""Tables of clicks."""

from __future__ import annotations

import pytest

from unet_studio.clicks.groups import group_of, read_groups
from unet_studio.errors import ClickError


def read(tmp_path, text, axes="YX"):
    path = tmp_path / "clicks.csv"
    path.write_text(text, encoding="utf-8")
    return read_groups(path, axes)


def test_rows_are_gathered_by_object_in_their_order(tmp_path):
    text = "\ufeffobject, x, y, positive\nb,1,2.5,1\na,3,4,yes\nb,5,6,0\n\nb,7,8,\n"
    two, one = read(tmp_path, text)
    assert two.name == "b"
    assert two.clicks == (((2.5, 1), True), ((6, 5), False), ((8, 7), True))
    assert one.clicks == (((4, 3), True),)


def test_without_objects_all_are_of_one(tmp_path):
    (only,) = read(tmp_path, "index,axis-0,axis-1,axis-2\n0,1,2,3\n1,4,5,6\n", "ZYX")
    assert only == group_of([(1, 2, 3), (4, 5, 6)], [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Y,X\n", "holds no clicks"),
        ("", "holds no clicks"),
        ("Y,Z\n1,2\n", "needs a column for each of Y, X"),
        ("axis-0,axis-1,axis-2\n1,2,3\n", "needs a column for each of Y, X"),
        ("Y,X\n1,2\n3,four\n", "Line 3 .* no numbers .* 3, four"),
        ("Y,X\n1\n", "Line 2"),
        ("Y,X\n1,nan\n", "Line 2"),
        ("Y,X,positive\n1,2,perhaps\n", "Line 2 .* 'perhaps'"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, text, words):
    with pytest.raises(ClickError, match=words):
        read(tmp_path, text)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ClickError, match="can not be read"):
        read_groups(tmp_path / "a.csv", "YX")
