"""The script that prepares a bare machine asks for the packages that are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "system-packages"

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the script is for Debian and Ubuntu"
)


@pytest.mark.parametrize(
    ("name", "version", "package"),
    [
        ("python3.12", "3.12", " python3.12-venv"),
        ("python3", "3.11", " python3.11-venv"),
        ("broken", "", " python3-venv"),
    ],
)
def test_the_venv_of_the_chosen_python_is_asked_for(
    name: str, version: str, package: str, tmp_path: Path
) -> None:
    commands = {
        # Without ensurepip, as Debian ships it.
        name: f'case "$2" in *version_info*) [ "{version}" ] && echo {version};; *) exit 1;; esac',
        "id": "echo 1000",  # not root: nothing is installed
        "apt-get": "exit 1",
    }
    for command, body in commands.items():
        (tmp_path / command).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / command).chmod(0o755)
    ended = subprocess.run(
        ["/bin/sh", str(SCRIPT)],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    line = next(text for text in ended.stderr.splitlines() if "apt-get install" in text)
    assert package in line
    assert " libglib2.0-0" in line
