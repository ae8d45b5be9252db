"""Model files under load: read while they are written, loaded a hundred times, honest halos."""

from __future__ import annotations

import gc
import threading
import weakref

import psutil
import pytest
import torch

from unet_studio.models.files import read_model_file, verify_file, write_model_file
from unet_studio.models.model import Model, build_network, load_model, save_model
from unet_studio.models.presets import new_model
from unet_studio.models.probe import receptive_radii


def test_P19_a_reader_never_sees_half_of_what_a_writer_replaces(tmp_path):
    path = tmp_path / "shared.safetensors"
    card = new_model("unet-tiny").card
    # Large enough that neither is read or written at once.
    versions = [{"w": torch.full((100_000,), float(n))} for n in range(2)]
    write_model_file(card, versions[0], path)
    ended = threading.Event()
    failures: list[BaseException] = []

    def write():
        number = 0
        try:
            while not ended.is_set():
                number += 1
                write_model_file(card, versions[number % 2], path)
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    try:
        for _ in range(60):
            values = read_model_file(path)[1]["w"].unique()  # its SHA-256 is checked here
            assert len(values) == 1
            seen.append(float(values))
            verify_file(path)
    finally:
        ended.set()
        writer.join()
    assert not failures
    assert set(seen) == {0.0, 1.0}, "nothing was replaced while it was read"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def small_model() -> Model:
    card = new_model("unet-tiny").card.model_copy(update={"options": {"widths": (2, 4, 4, 4, 4)}})
    return Model(card, build_network(card).eval())


def test_L07_a_hundred_models_leave_nothing_behind(tmp_path):
    path = tmp_path / "small.safetensors"
    save_model(small_model(), path)
    process = psutil.Process()
    dead = []
    for turn in range(100):
        model = load_model(str(path))
        dead.append(weakref.ref(model.network))
        dead.append(weakref.ref(next(model.network.parameters())))
        del model
        if turn == 30:  # what allocators keep for later is there by now
            gc.collect()
            before = process.memory_info().rss
    gc.collect()
    assert not any(reference() is not None for reference in dead)
    assert process.memory_info().rss - before < 16 << 20


@pytest.mark.parametrize("name", ["nuclei", "em-membranes", "clicks"])
def test_P03_the_halo_of_a_bundled_model_covers_what_it_sees(name):
    model = load_model(name)
    card = model.card
    assert card.tile_invariant
    radii = receptive_radii(model.network, card.in_channels, card.strides)
    assert all(r <= h for r, h in zip(radii, card.halos, strict=True))
    assert all(h % s == 0 for h, s in zip(card.halos, card.strides, strict=True))
    assert all(h - r < s for r, h, s in zip(radii, card.halos, card.strides, strict=True))
