"""The page of messages holds those of the program, and all of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from unet_studio import errors

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "unet_studio"
PAGE = ROOT / "docs" / "troubleshooting.md"
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
TELLS = {
    "Warned",
    "BadParameter",
    "complain",
    "notify_error",
    "notify_warning",
    "warn",
    "_go_to_cpu",
}
ADDS = {"warnings.append", "notices.append", "self.notices.append"}
ANY = "\0"  # stands for a value that is put into a message
_FEWEST_LETTERS = 12  # of a message that is not made of values alone
_MOST_FOR_ONE = 10


def text_of(node: ast.expr) -> str:
    """Return a text of the source, with ``ANY`` for what is put into it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return ANY


@cache
def nodes() -> tuple[tuple[str, ast.expr], ...]:
    """Calls and texts of the source, and where they are."""
    kinds = (ast.Call, ast.Constant, ast.JoinedStr, ast.BinOp)
    return tuple(
        (f"{path.relative_to(SOURCE)}:{node.lineno}", node)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, kinds)
    )


def texts() -> set[str]:
    """All texts of the program that could be a part of a message."""
    found = {" ".join(text_of(node).split()) for _, node in nodes()}
    return {text for text in found if len(text) > 3}


def said() -> Iterator[tuple[str, str]]:
    """Where an error, a warning or a note is made, and its words."""
    for where, node in nodes():
        if isinstance(node, ast.Call) and (words := _words(node)) is not None:
            message = " ".join(text_of(words).split())
            if len(re.sub(r"[^A-Za-z]", "", message)) >= _FEWEST_LETTERS:
                yield where, message


def _words(call: ast.Call) -> ast.expr | None:
    """Return what a call tells the user, if it is one that does."""
    name = ast.unparse(call.func)
    if not call.args:
        return None
    if name.rpartition(".")[2] in {
        "emit",
        "show_message",
        "tell",
    }:  # of the window, after how bad it is
        loud = text_of(call.args[0]) in {"warning", "error"} and len(call.args) > 1
        return call.args[1] if loud else None
    return call.args[0] if name.rpartition(".")[2] in ERRORS | TELLS or name in ADDS else None


def quoted() -> list[str]:
    """The messages that the page explains: code in the first cells of its tables."""
    page = PAGE.read_text(encoding="utf-8").partition("## Installation")[0]
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    return [part for cell in cells for part in re.findall(r"`([^`]+)`", cell)]


def holds(message: str, quote: str) -> bool:
    """Whether a quote is in a message; ``…`` is whatever the program puts there."""
    place = 0
    for part in quote.split("…"):
        found = message.find(part.strip(), place)
        if found < 0:
            return False
        place = found + len(part.strip())
    return True


def test_the_messages_that_are_explained_are_those_of_the_program():
    known = texts()
    filled = [text for text in known if ANY in text]
    plain = "\n".join(known)
    assert len(quoted()) > 200
    assert not [
        quote
        for quote in quoted()
        if quote not in plain and not any(holds(text, quote) for text in filled)
    ]


def test_every_message_of_the_program_is_explained():
    quotes, found = quoted(), dict(said())
    assert len(found) > 400
    missing = {
        where: message.replace(ANY, "…")
        for where, message in found.items()
        if not any(holds(message, quote) for quote in quotes)
    }
    assert not missing, "explain these in docs/troubleshooting.md"


def test_no_row_explains_everything():
    """A quote so short that it is in many messages would make the page complete by itself."""
    messages = [message for _, message in said()]
    for quote in quoted():
        assert sum(holds(message, quote) for message in messages) <= _MOST_FOR_ONE, quote


def test_a_message_that_is_new_would_be_noticed():
    new = "The moon is too full for this image. Wait two weeks."
    assert not any(holds(new, quote) for quote in quoted())
