"""Which network calls a piece of code makes, in all the processes that come of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_WATCH = """
import sys

def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        with open({seen!r}, "a") as file:
            file.write(f"{{event}} {{args}}\\n")

sys.addaudithook(note)
with open({seen!r}, "a") as file:
    file.write(f"process {{sys.argv}}\\n")
"""


def watched(code: str, folder: Path) -> list[str]:
    """Run code with nothing remembered, and return the processes and their network calls.

    Forks of a process, as telemetry makes them, are watched with it.
    """
    seen = folder / "seen.txt"
    (folder / "sitecustomize.py").write_text(_WATCH.format(seen=str(seen)))
    # Some keep quiet in CI, or where this user has told them to.
    quiet = ("CI", "TF_BUILD", "JENKINS_URL", "NNCF_CI", "NNCF_DEV")
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    for name in ("PYTHONPATH", "UNET_STUDIO_HOME", "HOME", "LOCALAPPDATA"):
        environment[name] = str(folder)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    return seen.read_text().splitlines()
