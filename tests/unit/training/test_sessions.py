"""Which images a session knows, and how it is found again."""

from __future__ import annotations

import numpy as np
import torch

from unet_studio.models.files import weights_hash
from unet_studio.models.model import load_model
from unet_studio.models.store import find_model
from unet_studio.training.annotations import annotate
from unet_studio.training.session import list_sessions, new_session, open_session, session_of


def test_images_have_numbers_of_their_own_and_keep_them(tmp_path):
    session = new_session("cells: day/1", tmp_path)
    assert not list_sessions(tmp_path)  # nothing is made before there is something to keep
    strokes = annotate(np.eye(5, dtype=np.uint8))
    numbers = [session.image_number(key, key.upper()) for key in ("a", "b", "a")]
    assert numbers == [0, 1, 0]
    session.save_strokes(1, strokes)
    (found,) = list_sessions(tmp_path)
    assert [(i.key, i.name) for i in found.images] == [("a", "A"), ("b", "B")]
    assert found.strokes(0) is None
    assert np.array_equal(found.strokes(1).dense(), strokes.dense())
    assert "/" not in found.folder.name


def test_an_image_leads_to_its_latest_session(tmp_path):
    first, second = (new_session("cells", tmp_path / n) for n in "xy")
    first.image_number("a", "A")
    assert session_of("a", tmp_path / "x") == first
    assert session_of("b", tmp_path / "x") is None
    second.image_number("b", "B")
    (tmp_path / "y" / "broken").mkdir()
    (tmp_path / "y" / "broken" / "session.json").write_text("{")
    assert session_of("b", tmp_path / "y") == second


def test_a_session_knows_the_model_that_it_began_with_however_that_is_written(tmp_path):
    """The shipped models are float16, a session keeps float32."""
    path, model = find_model("nuclei").path, load_model("nuclei")
    session = open_session(tmp_path / "session", model)
    assert weights_hash(path) != weights_hash(session.path(0))
    assert session.began_with(path)
    assert session.began_with(session.path(0))
    with torch.no_grad():
        next(iter(model.network.parameters())).view(-1)[0] += 1
    session.add(model)
    assert not session.began_with(session.path(1))
    assert not session.began_with(find_model("em-membranes").path)
