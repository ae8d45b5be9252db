"""Models trained by nnU-Net v2: found on disk, read, and made into models of ours.

What an importer needs is here; torch is imported on first use.
"""

from __future__ import annotations

from unet_studio.models.importing import Importer, ImportRequest
from unet_studio.models.nnunet.folder import recognises


def _convert(request: ImportRequest) -> tuple[str, ...]:
    from unet_studio.models.foreign import save_imported
    from unet_studio.models.nnunet.importing import import_with

    return save_imported(import_with(request.source, request.options), request)


IMPORTER = Importer(
    "a model that nnU-Net v2 trained (its folder, or a zip of it)", (".zip",), recognises, _convert
)
