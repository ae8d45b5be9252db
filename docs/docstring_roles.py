"""Show Sphinx roles of docstrings, such as :class:`~a.b.C`, as plain code in the reference."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|data|attr|mod|exc):`(~?)([\w.]+)`")


class DocstringRoles(griffe.Extension):
    """Rewrites every docstring as it is collected."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Replace the roles of one docstring; a tilde keeps the last word only."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(
                lambda m: f"`{m[2].rpartition('.')[2] if m[1] else m[2]}`", obj.docstring.value
            )
