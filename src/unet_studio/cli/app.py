"""The command ``unet-studio``: one file per command, joined here.

Exit codes: 0 all done, 1 could not start, 2 some items failed (each is named),
130 interrupted (Ctrl+C), 143 terminated.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from unet_studio import __version__
from unet_studio.cli.batch import batch_command, recipe_command
from unet_studio.cli.click import click_command
from unet_studio.cli.console import INTERRUPTED, TERMINATED, complain
from unet_studio.cli.demo import demo_command
from unet_studio.cli.encoders import encoders_command, new_command
from unet_studio.cli.evaluate import evaluate_command
from unet_studio.cli.models import models_app
from unet_studio.cli.refine import refine_command
from unet_studio.cli.segment import segment_command
from unet_studio.errors import UNetStudioError

if TYPE_CHECKING:
    from types import FrameType

app = typer.Typer(
    name="unet-studio",
    help="Segment microscopy and MRI images with a U-Net: from a file, a folder, or in napari.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo_command)
app.command("segment")(segment_command)
app.command("batch")(batch_command)
app.command("recipe")(recipe_command)
app.command("click")(click_command)
app.command("refine")(refine_command)
app.command("evaluate")(evaluate_command)
models_app.command("new")(new_command)
models_app.command("encoders")(encoders_command)
app.add_typer(models_app, name="models")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"unet-studio {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Take the options that belong to no command."""


class _Terminated(BaseException):
    """SIGTERM, as an exception, so that partial files are removed on the way out."""


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise _Terminated


def main() -> None:
    """Run the command line and end the process with its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        # In this mode typer returns the code of an Exit, and 130 after Ctrl+C.
        code = app(standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
    except UNetStudioError as error:
        complain(str(error))
        sys.exit(1)
    except (typer.Abort, KeyboardInterrupt):
        complain("Interrupted. What was finished is kept.")
        sys.exit(INTERRUPTED)
    except _Terminated:
        complain("Terminated. What was finished is kept.")
        sys.exit(TERMINATED)
    except Exception as error:
        if _is_usage_error(error):
            error.show()  # type: ignore[attr-defined]
            sys.exit(1)
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _is_usage_error(error: Exception) -> bool:
    """Whether typer's parser refused the arguments (its own click, or the click package)."""
    return hasattr(error, "show") and hasattr(error, "exit_code")


if __name__ == "__main__":
    main()
