"""What a session writes down: it is replayed to the bit, and names its device."""

from __future__ import annotations

import json

import numpy as np
import pytest

from unet_studio import ClickSession, load_model, replay
from unet_studio.clicks.network import ClickNetwork
from unet_studio.errors import ClickError
from unet_studio.inference import devices
from unet_studio.models.model import Model
from unet_studio.samples import read_sample


def test_a_session_is_replayed_to_the_bit(random_network, tmp_path):
    from unet_studio import replay

    image = np.random.default_rng(5).integers(0, 255, (6, 120, 130)).astype(np.uint8)
    labels = np.zeros(image.shape, np.uint8)
    labels[3, 5:9, 5:9] = 250
    session = ClickSession(image, random_network, axes="ZYX", labels=labels.copy())
    session.click((2, 60.25, 70.5))
    session.click((2, 64, 75), positive=False)
    session.undo()
    session.redo()
    for _ in session.propagate(before=1, after=1):
        pass
    session.commit(policy="overwrite")
    session.start_from(session.labels, (3, 6, 6))
    session.scribble([(3, 8, 10), (3, 20, 30)])
    session.click((np.nan, 1, 1))
    session.commit()
    session.box((4, 10, 10), (4, 50, 50))
    session.commit(number=300)
    session.erase((3, 6, 6))
    session.reset()
    path = tmp_path / "session.jsonl"
    path.write_text(session.journal)
    again = replay(image, path, random_network, labels=labels.copy(), axes="ZYX")
    np.testing.assert_array_equal(again.labels, session.labels)
    assert again.labels.dtype == session.labels.dtype == np.uint16
    assert again.journal == session.journal


def test_a_journal_of_another_image_is_refused(random_network, tmp_path):
    from unet_studio import replay

    image = np.random.default_rng(5).integers(0, 255, (120, 130)).astype(np.uint8)
    session = ClickSession(image, random_network)
    session.click((60, 60))
    with pytest.raises(ClickError, match="another image"):
        replay(image[:100], session.journal, random_network)
    with pytest.raises(ClickError, match="Line 2 of the journal .* another result"):
        replay(image // 2 + np.arange(130, dtype=np.uint8), session.journal, random_network)
    moved = session.journal.replace('"device": "cpu"', '"device": "cuda:0"', 1)
    with pytest.raises(ClickError, match=r"result .* written on cuda:0, this is cpu\."):
        replay(image // 2 + np.arange(130, dtype=np.uint8), moved, random_network)
    with pytest.raises(ClickError, match="can not be read"):
        replay(image, tmp_path / "nothing.jsonl")
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(ClickError, match="not a journal"):
        replay(image, tmp_path / "bad.jsonl")


def test_F58_an_absent_gpu_is_said_and_journalled(random_network):
    image = np.zeros((80, 90), np.uint8)
    session = ClickSession(image, random_network.model, device="cuda:99")
    (said,) = session.notices
    assert "cuda:99 is not available" in said
    assert "the CPU is used instead" in said
    assert json.loads(session.journal.splitlines()[0])["device"] == "cpu"
    assert not ClickSession(image, random_network).notices


def test_F59_clicks_go_on_where_a_gpu_lacks_an_operation(monkeypatch, lacking_device):
    model = load_model("clicks")
    expected = ClickNetwork(model, "cpu")
    lacking = Model(model.card, lacking_device.OnlyOnCpus(model.network).eval())
    monkeypatch.setattr(devices, "open_devices", lambda *_: ([lacking_device.DEVICE], None))
    crops = [np.random.default_rng(0).random((6, 64, 64)).astype(np.float32)]
    network = ClickNetwork(lacking)
    session = ClickSession(read_sample("nuclei_fluorescence")[:128, :128], network)
    for _ in range(2):
        session.click((60, 80))
        (found,) = network(crops)
        np.testing.assert_allclose(found, expected(crops)[0], atol=1e-5)
    (said,) = session.notices
    assert "The meta can not run this network" in said
    assert "max_pool3d" in said
    assert "the CPU is used instead" in said
    lines = [json.loads(line) for line in session.journal.splitlines()]
    assert [line.get("device") for line in lines] == ["meta", "cpu", None]
    replay(session.canvas.volume, session.journal, lacking)
