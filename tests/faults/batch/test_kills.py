"""Killed at any moment, with a full disk, on dying workers: the results are the same."""

from __future__ import annotations

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

from unet_studio.batch.manifest import read_manifest

# One interpreter with torch loaded; each run is a fork of it, so 20 kills take seconds.
KILLER = """
import os, random, signal, sys, time
import torch
from unet_studio import run_batch
import unet_studio.pipeline, unet_studio.inference.predictor, unet_studio.objects.run
recipe, images, out, kills = *sys.argv[1:4], int(sys.argv[4])
torch.set_num_threads(1)
chance = random.Random(7)
killed = 0
for _ in range(kills):
    pid = os.fork()
    if not pid:
        run_batch(recipe, [images], out)
        os._exit(0)
    time.sleep(chance.uniform(0.02, 0.3))
    os.kill(pid, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
print(killed)
"""
_OF_EACH = ("_labels.tif", "_labels.tif.json", "_objects.csv", "_probabilities.tif")
FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
from unet_studio.cli.app import main
main()
"""
CLUSTER = """
import os, random, signal, sys
from distributed import LocalCluster
from unet_studio import run_batch

def main():
    recipe, images, out, seed = sys.argv[1:]
    chance = random.Random(int(seed))
    moments = sorted(chance.sample(range(1, 20), 2))
    # Killed by the system, as when memory is short; by its own fault; asked to go.
    how = (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM)[int(seed) % 3]
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None,
                      host="127.0.0.1", silence_logs=50) as cluster:
        killed = []
        def kill(result, report):
            if report.done in moments and report.done not in killed:
                killed.append(report.done)
                os.kill(chance.choice(list(cluster.workers.values())).pid, how)
        report = run_batch(recipe, [images], out, scheduler=cluster.scheduler_address,
                           on_result=kill)
    # Who is killed after writing and before telling leaves an item that is complete already.
    print(len(killed), report.done + report.skipped, [r.reason for r in report.failed])

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    # "auto" measures which is faster: a busy machine might choose differently each time.
    path.write_text('model = "random:unet-tiny"\nprecision = "float32"\nbackend = "torch"\n')
    return path


def make_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(count):
        image = chance.integers(0, 255, (32, 32)).astype(np.uint8)
        tifffile.imwrite(folder / f"{number:03}.tif", image)
    return folder


def results(folder: Path) -> dict[str, str]:
    """Labels and tables; the records hold times."""
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file() and p.suffix in (".tif", ".csv")
    }


def run(code: str, *arguments: object, folder: Path) -> str:
    script = folder / "script.py"
    script.write_text(code)
    ended = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip().splitlines()[-1]


@pytest.fixture
def clean(tmp_path, recipe):
    """The images, and what an undisturbed run makes of them."""
    from unet_studio import run_batch

    def make(count: int) -> tuple[Path, dict[str, str]]:
        images = make_images(tmp_path / "images", count)
        assert run_batch(recipe, [images], tmp_path / "clean").done == count
        return images, results(tmp_path / "clean")

    return make


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can not fork")
def test_L05_P17_killed_twenty_times_gives_the_same_bytes(clean, recipe, tmp_path):
    from unet_studio import run_batch

    images, expected = clean(150)
    out = tmp_path / "out"
    killed = int(run(KILLER, recipe, images, out, 20, folder=tmp_path))
    assert killed >= 10, "the runs were over before they were killed"
    report = run_batch(recipe, [images], out)
    assert report.ok
    assert results(out) == expected
    assert not [p for p in out.rglob("*") if ".partial-" in p.name]
    done = [line["name"] for line in read_manifest(out) if line.get("state") == "done"]
    assert len(done) == len(set(done)), "done again although complete"


def test_F93_a_file_that_the_disk_does_not_take_fails_alone(recipe, tmp_path, fault_contract):
    images = make_images(tmp_path / "images", 3)
    large = np.random.default_rng(1).integers(0, 255, (512, 512)).astype(np.uint8)
    tifffile.imwrite(images / "large.tif", large)
    before = fault_contract.files_of(tmp_path)
    script = tmp_path / "full.py"
    script.write_text(FULL)
    out = tmp_path / "out"
    ended = subprocess.run(
        [
            sys.executable, str(script),
            "batch", str(recipe), str(images), "-o", str(out), "--probabilities",
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    whole = {f"00{n}{what}" for n in range(3) for what in _OF_EACH}
    # Whole, too, but without the record that would say that its image is done.
    whole.add("large_labels.tif")
    fault_contract.assert_fault_contract(
        ended.stderr,
        r"large",
        r"could not be written",
        before=before,
        now=fault_contract.files_of(tmp_path),
        folder=out,
        results=whole | {"objects.csv", "manifest.jsonl"},
        code=(ended.returncode, 2),
    )
    assert "3 done, 0 complete already, 1 failed" in ended.stdout


def test_ctrl_c_ends_with_130_and_keeps_what_is_whole(recipe, tmp_path):
    images = make_images(tmp_path / "images", 300)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [
            sys.executable, "-m", "unet_studio.cli.app",
            "batch", str(recipe), str(images), "-o", str(out),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        limit = time.monotonic() + 60
        while len(list(out.glob("*.json"))) < 2 and time.monotonic() < limit:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, err
    records = list(out.glob("*.json"))
    assert 2 <= len(records) < 300
    for record in records:
        assert all((out / name).is_file() for name in json.loads(record.read_text())["outputs"])
    assert not [p for p in out.iterdir() if ".partial-" in p.name]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_F96_L11_killed_workers_do_not_change_the_result(clean, recipe, tmp_path, seed):
    images, expected = clean(24)
    said = run(CLUSTER, recipe, images, tmp_path / "out", seed, folder=tmp_path)
    assert said == "2 24 []"
    assert results(tmp_path / "out") == expected
