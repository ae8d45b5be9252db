"""What a package says of its model, the same for formats 0.4 and 0.5.

A small reading of our own: of the description only what a run needs, and nothing is
looked up on the web. ``bioimageio.spec`` validates much more, takes two seconds of work to
be imported, and refuses packages with a missing file that nobody needs; what we write is
validated with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, ValidationError

from unet_studio.errors import ModelError
from unet_studio.models.zoo.advice import ANOTHER, MENDED
from unet_studio.models.zoo.formats import tensors_04, tensors_05
from unet_studio.models.zoo.tensors import FileEntry, Loose, Tensor


class WeightsEntry(FileEntry):
    """Weights in one format."""

    architecture: Any = None
    external_data: Any = None


@dataclass(frozen=True)
class Description:
    """A model as its package describes it."""

    name: str
    format: Literal["0.4", "0.5"]
    input: Tensor
    output: Tensor
    outputs: int
    weights: dict[str, WeightsEntry]
    description: str = ""
    licence: str = "unknown"
    authors: str = ""
    citation: str = ""
    config: dict[str, Any] = field(default_factory=dict)


def parse_description(values: dict[str, Any], where: str) -> Description:
    """Parse a description.

    Parameters
    ----------
    values : dict
        Plain values, as read from the package.
    where : str
        What to call it in messages.

    Raises
    ------
    ModelError
        If it is not of a model, of another format, or of a model that can not be run here.
    """
    kind, version = values.get("type", "model"), str(values.get("format_version", ""))
    if kind != "model":
        raise ModelError(f"{where} describes a {kind}, not a model. Give the package of a model.")
    minor = version[:3]
    if minor not in ("0.4", "0.5"):
        raise ModelError(
            f"{where} is in format {version or 'unknown'}; 0.4 and 0.5 can be read. Get a newer "
            "version of the package."
        )
    try:
        raw = _RawModel.model_validate(values)
        inputs, outputs = (tensors_05 if minor == "0.5" else tensors_04)(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"The description in {where} can not be used: {place}: {first['msg']}. {MENDED}"
        ) from None
    except (TypeError, ValueError, OverflowError, AttributeError, KeyError) as error:
        # Values of another kind than the format has in that place.
        raise ModelError(
            f"The description in {where} can not be used: {error}. {MENDED}"
        ) from None
    if len(inputs) != 1 or not outputs:
        raise ModelError(
            f"The model in {where} takes {len(inputs)} images and returns {len(outputs)}; models "
            f"that take one image can be run. {ANOTHER}"
        )
    _check_sizes(inputs[0], outputs[0], where)
    return Description(
        name=raw.name,
        format="0.5" if minor == "0.5" else "0.4",
        input=inputs[0],
        output=outputs[0],
        outputs=len(outputs),
        weights=raw.weights,
        description=raw.description,
        licence=raw.license or "unknown",
        authors=", ".join(a.name for a in raw.authors),
        citation="; ".join(c.words for c in raw.cite),
        config=raw.config,
    )


class _Person(Loose):
    name: str = ""


class _Citation(Loose):
    text: str = ""
    doi: str | None = None
    url: str | None = None

    @property
    def words(self) -> str:
        where = f"doi:{self.doi}" if self.doi else self.url
        return " ".join([" ".join(self.text.split()), *([where] if where else [])])


class _RawModel(Loose):
    name: str
    description: str = ""
    license: str | None = None
    authors: list[_Person] = Field(default_factory=list)
    cite: list[_Citation] = Field(default_factory=list)
    weights: dict[str, WeightsEntry]
    config: dict[str, Any] = Field(default_factory=dict)


def _check_sizes(given: Tensor, returned: Tensor, where: str) -> None:
    for tensor in (given, returned):
        if not {"y", "x"} <= set(tensor.letters):
            raise ModelError(
                f"The model in {where} has axes {tensor.letters!r} without y and x. {ANOTHER}"
            )
        counts = [a.size for a in tensor.axes if a.letter == "c"]
        if any(not isinstance(c, int) or not 1 <= c <= 10_000 for c in counts):
            raise ModelError(
                f"The model in {where} does not say how many channels it has. {MENDED}"
            )
        for axis in tensor.spatial:
            least, step = axis.size if isinstance(axis.size, tuple) else (axis.size, 1)
            if not isinstance(least, int) or least < 1 or step < 1:
                raise ModelError(f"The model in {where} has an axis of size {axis.size}. {MENDED}")
    sizes = [{a.letter: a.size for a in t.spatial} for t in (given, returned)]
    if sizes[0] != sizes[1]:
        raise ModelError(
            f"The model in {where} returns an image of another size or of other axes than it "
            f"takes; such models can not be run yet. {ANOTHER}"
        )
