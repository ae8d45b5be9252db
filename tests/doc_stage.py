"""Where examples of the documentation run: processes, files, and a web of this computer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Each page runs in a process of its own: pages register parts and change nothing for others. The
# processes are copies of one that has what takes long to import, and nothing of ours.
_SERVER = """
import json, os, runpy, sys, traceback
import numpy, pydantic, scipy.ndimage, tifffile, torch, zarr
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setsid()
            out = os.open(job["output"], os.O_WRONLY | os.O_CREAT)
            for stream in (1, 2):
                os.dup2(out, stream)
            os.chdir(job["folder"])
            os.environ["UNET_STUDIO_HOME"] = job["home"]
            sys.argv = [job["runner"], job["page"], job["steps"]]
            runpy.run_path(job["runner"])
            status = 0
        except SystemExit as stop:
            print(stop.code)
            status = 1 if stop.code else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    print(json.dumps({"pid": child}), flush=True)
    print(json.dumps({"code": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}), flush=True)
"""

# Every host is this computer, without encryption; all else of a download is as it is. Who starts
# processes does so from a process of its own, as they begin by running their parent's main file.
_RUNNER = """
import io, json, subprocess, sys
from pathlib import Path
page, todo = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
sys.path.insert(0, "")
import unet_studio.cli.app as command_line

def stay_here(port, brain):
    import dataclasses, socket
    from unet_studio.models import brain_mri, catalogue, connection
    class Plain:
        def wrap_socket(self, opened, server_hostname):
            return opened.dup()
    connection._connect = lambda *_: socket.create_connection(("127.0.0.1", port))
    connection._trusted = Plain
    brain_mri.SHA256_PREFIX = brain
    catalogue.CATALOGUE["brain-mri"] = dataclasses.replace(
        catalogue.CATALOGUE["brain-mri"], sha256_start=brain
    )

def meant(text):
    for written, instead in todo["instead"].items():
        text = text.replace(written, instead)
    return text

if todo["web"]:
    stay_here(**todo["web"])
space = {"__name__": "__docs__"}
for step in todo["steps"]:
    where = f"{page}:{step['line']}"
    if "python" in step:
        if step["save"]:
            Path(step["save"]).write_text(meant(step["python"]))
        if "__main__" in step["python"]:
            subprocess.run([sys.executable, step["save"]], check=True)
            continue
        code = "\\n" * (step["line"] - 1) + step["python"]
        exec(compile(code, page, "exec"), space)
        continue
    words = [meant(word) for word in step["command"]]
    if {"--workers", "--scheduler"} & set(words):
        subprocess.run([sys.executable, "-m", "unet_studio", *words[1:]], check=True)
        continue
    sys.argv = [*words, *(["--headless"] if words[1] == "demo" else [])]
    sys.stdin = io.StringIO("y\\n")
    try:
        command_line.main()
    except SystemExit as stop:
        if stop.code:
            sys.exit(f"{where}: {' '.join(step['command'])} ended with {stop.code}")
"""


@dataclass
class Props:
    """What a page needs beside the files that all have.

    ``web`` is what the runner has to know of the web of this computer, ``instead`` what words of
    commands and of saved scripts stand for.
    """

    web: dict[str, object] | None = None
    instead: dict[str, str] = field(default_factory=dict)


Run = Callable[..., tuple[int, str]]


def runs(place: Path) -> Iterator[Run]:
    """Yield a function that runs steps in a folder; it returns the exit status and the output."""
    (place / "server.py").write_text(_SERVER)
    (place / "runner.py").write_text(_RUNNER)
    left_out = ("DISPLAY", "WAYLAND_DISPLAY", "HF_ENDPOINT", "HF_HUB_OFFLINE")
    environment = {
        k: v for k, v in os.environ.items() if k not in left_out and "_proxy" not in k.lower()
    }
    environment |= {"PYTHONWARNINGS": "default", "HF_HUB_CACHE": str(place / "hub")}
    server = subprocess.Popen(
        [sys.executable, place / "server.py"], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    measured = place / "numerics.json"

    def run(
        page: str,
        steps: list[dict],
        folder: Path,
        props: Props | None = None,
        late_s: float = 240,
    ) -> tuple[int, str]:
        number = len(list(place.glob("*.txt")))
        # Models of one page are not there for the next; speeds are measured once for all.
        home = place / f"home {number}"
        home.mkdir()
        if measured.exists():
            shutil.copy(measured, home)
        props = props or Props()
        todo, output = place / f"{number}.json", place / f"{number}.txt"
        todo.write_text(json.dumps({"steps": steps, "web": props.web, "instead": props.instead}))
        job = {"page": page, "steps": todo, "runner": place / "runner.py", "folder": folder}
        job |= {"output": output, "home": home}
        server.stdin.write(json.dumps({k: str(v) for k, v in job.items()}) + "\n")
        server.stdin.flush()
        process = json.loads(server.stdout.readline())["pid"]
        late = threading.Timer(late_s, os.killpg, (process, signal.SIGKILL))
        late.start()
        code = json.loads(server.stdout.readline())["code"]
        late.cancel()
        if (home / measured.name).exists():
            shutil.copy(home / measured.name, measured)
        return code, output.read_text()

    yield run
    server.stdin.close()
    server.wait(60)
    server.stdout.close()


# -- what readers have of their own -------------------------------------------


def models_of_others(folder: Path, web) -> Props:
    """Put files of all kinds that can be imported into a folder, and some of them onto the web."""
    import torch

    from unet_studio.models.model import save_model
    from unet_studio.models.networks.hub_unet import HubUNet
    from unet_studio.models.networks.milesial_unet import MilesialUNet
    from unet_studio.models.presets import new_model
    from unet_studio.models.zoo.exporting import export_bioimageio

    torch.manual_seed(1)
    cells = new_model(
        "unet-tiny", name="my-cells", representation="binary", classes=("cell",), licence="CC0-1.0"
    )
    save_model(cells, folder / "my-cells.safetensors")
    export_bioimageio(cells, folder / "affable-shark.zip")
    network = MilesialUNet(3, 2, (4, 8, 8), bilinear=True)
    torch.save({**network.state_dict(), "mask_values": [0, 1]}, folder / "checkpoint_epoch5.pth")
    torch.save(HubUNet(3, 1, 32).state_dict(), folder / "brain.pt")
    _trained_by_nnunet(folder)
    address = "/mateuszbuda/brain-segmentation-pytorch/releases/download/v1.0/unet-e012d006.pt"
    package = "/bioimage-io/artifacts/affable-shark/create-zip-file"
    for path, name in (
        (address, "brain.pt"),
        (package, "affable-shark.zip"),
        ("/my-cells.safetensors", "my-cells.safetensors"),
    ):
        web.pages[path] = web.page((folder / name).read_bytes())
    own = hashlib.sha256((folder / "my-cells.safetensors").read_bytes()).hexdigest()
    brain = hashlib.sha256((folder / "brain.pt").read_bytes()).hexdigest()[:8]
    return Props({"port": web.port, "brain": brain}, {"0123…": own})


def _trained_by_nnunet(folder: Path) -> None:
    """Put what nnU-Net trained into a folder; its second channel is taken off."""
    import torch

    trained = Path(__file__).with_name("unit") / "models" / "nnunet" / "data"
    for name in ("2d", "3d_fullres"):
        source = trained / f"nnUNetTrainer_20epochs__nnUNetPlans__{name}"
        target = folder / "Dataset004_Hippocampus" / f"nnUNetTrainer__nnUNetPlans__{name}"
        shutil.copytree(source, target)
        about = json.loads((target / "dataset.json").read_text())
        (target / "dataset.json").write_text(json.dumps(about | {"channel_names": {"0": "MRI"}}))
        plans = json.loads((target / "plans.json").read_text())
        for configuration in plans["configurations"].values():
            for key in ("normalization_schemes", "use_mask_for_norm"):
                configuration[key] = configuration[key][:1]
        (target / "plans.json").write_text(json.dumps(plans))
        for path in target.rglob("*.pth"):
            checkpoint = torch.load(path, weights_only=False)
            weights = checkpoint["network_weights"]
            first = [k for k, v in weights.items() if v.ndim > 3 and v.shape[1] == 2]
            weights.update({key: weights[key][:, :1].clone() for key in first})
            torch.save(checkpoint, path)
    shutil.copytree(target, folder / target.name)


def scans(folder: Path) -> None:
    """Put MRI volumes into a folder: a patient, three sequences on each other, one with truth."""
    import nibabel
    import numpy as np
    import tifffile

    from unet_studio.samples import read_sample

    chance = np.random.default_rng(0)
    tifffile.imwrite(folder / "patient.tif", chance.integers(0, 255, (4, 64, 64, 3), np.uint8))
    affine = np.diag([1.0, 1.0, 3.5, 1.0])
    for name in ("pre", "flair", "post", "scan"):
        scan = chance.normal(100, 20, (48, 48, 4)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(scan, affine), folder / f"{name}.nii.gz")
    (folder / "drawn").mkdir()
    truth = np.zeros((48, 48, len(read_sample("nuclei_stack"))), np.uint8)
    truth[8:20, 8:20] = 1
    nibabel.save(nibabel.Nifti1Image(truth, affine), folder / "drawn" / "scan.nii.gz")


def slide(folder: Path) -> None:
    """Put an OME-Zarr image into a folder."""
    from unet_studio.axes import Axes
    from unet_studio.images.writers import write_array
    from unet_studio.samples import read_sample

    image = read_sample("nuclei_fluorescence")[:160, :160]
    write_array(image, Axes("YX"), folder / "slide.ome.zarr")


def encoder_weights(folder: Path, web) -> Props:
    """Put trained weights of encoders (random ones, here) into a folder and onto the web."""
    import timm
    import torch
    from safetensors.torch import save

    from unet_studio.models.encoders import find_encoder
    from unet_studio.models.presets import new_model

    torch.manual_seed(1)
    lite = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    torch.save(lite.state_dict(), folder / "tf_efficientnet_lite0.pth")
    weights = find_encoder("resnet18").find_weights("imagenet")
    network = new_model("smp-unet/resnet18", in_channels=3).network
    published = {
        name.partition("encoder.")[2]: value.contiguous()
        for name, value in network.state_dict().items()
        if "encoder." in name
    }
    path = f"/{weights.repository}/resolve/{weights.revision}/model.safetensors"
    web.pages[path] = web.page(save(published))
    return Props({"port": web.port, "brain": "0" * 8})


# SLURM's part is played by this computer; the script that asks it for jobs is run as it is.
_JOBS = """
from distributed import LocalCluster

class SLURMCluster(LocalCluster):
    def __init__(self, cores, processes, memory, walltime):
        super().__init__(
            n_workers=0, threads_per_worker=cores, processes=False, protocol="tcp",
            host="127.0.0.1", memory_limit=memory, dashboard_address=":0",
        )

    def scale(self, jobs):
        super().scale(min(jobs, 2))
"""


def cluster(folder: Path, scheduler: str) -> Props:
    """Put into a folder what a cluster has: a recipe, lists of images, a way to get jobs."""
    (folder / "recipe.toml").write_text('model = "nuclei"\n')
    (folder / "part_1.txt").write_text("images/0.png\nimages/1.png\n")
    (folder / "dask_jobqueue.py").write_text(_JOBS)
    return Props(
        instead={"tcp://node1:8786": scheduler, "$SLURM_ARRAY_TASK_ID": "1", "/data/": ""}
    )
