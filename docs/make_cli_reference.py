"""Write docs/reference/command-line.md from the commands themselves.

    python docs/make_cli_reference.py

A test compares the page with what this would write.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from unet_studio.cli.app import app

PAGE = Path(__file__).parent / "reference" / "command-line.md"
HEAD = """# Command line

<!-- Written by docs/make_cli_reference.py; changes here are lost. -->

Exit codes of every command: 0 all done, 1 could not start, 2 some items failed (each is named),
130 interrupted with Ctrl+C, 143 terminated.

`UNET_STUDIO_HOME` names the folder of your own models, instead of the platform's usual place.
"""


def reference() -> str:
    """Return the page as Markdown."""
    root = typer.main.get_command(app)
    parts = [HEAD, *(section(path, command) for path, command in commands("unet-studio", root))]
    return "\n".join(parts)


def commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with the words that lead to it."""
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from commands(f"{path} {name}", child)


def section(path: str, command: Any) -> str:
    """Return the section of one command."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join([path, *map(usage_of, arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## {path}", "", "```text", usage, "```", "", inspect.cleandoc(command.help), ""]
    rows = [(f"`{usage_of(p)}`", p) for p in arguments]
    rows += [(f"`{spellings_of(p)}`" + " (required)" * p.required, p) for p in options]
    if rows:
        lines += ["| | |", "|---|---|"]
        lines += [f"| {name} | {words_of(p)} |" for name, p in rows]
        lines.append("")
    return "\n".join(lines).replace("<stem>", "`<stem>`")


def usage_of(argument: Any) -> str:
    """Return an argument as usage lines show it."""
    return argument.name.upper().removesuffix("_") + ("..." if argument.nargs == -1 else "")


def spellings_of(option: Any) -> str:
    """Return all ways to write an option, with those that switch it off after a slash."""
    on, off = ", ".join(option.opts), ", ".join(option.secondary_opts)
    return f"{on} / {off}" if off else on


def words_of(parameter: Any) -> str:
    """Return the help of a parameter with its default."""
    default = parameter.default
    shown = default is not None and default not in ([], "") and not isinstance(default, bool)
    if parameter.required or callable(default) or not shown:
        return str(parameter.help)
    return f"{parameter.help} Default: `{default}`."


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    print(f"Wrote {PAGE}")
