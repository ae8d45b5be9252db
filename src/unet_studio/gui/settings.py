"""What the user chose on the plugin's page in napari's Preferences."""

from __future__ import annotations

from dataclasses import dataclass

PLUGIN = "napari-unet-studio"
WIDGET = "U-Net Studio"


@dataclass(frozen=True)
class Settings:
    """Values of the Preferences page; these are the defaults.

    Attributes
    ----------
    device : str
        Where to compute when the widget opens: "auto", "cpu", "cuda", "mps".
    live_preview : bool
        Make new objects while an option of theirs changes.
    keep_probabilities : bool
        Keep the network's output in memory after a run, which live preview needs.
    measure : bool
        Measure each object.
    """

    device: str = "auto"
    live_preview: bool = True
    keep_probabilities: bool = True
    measure: bool = True


def read_settings() -> Settings:
    """Return the current settings; the defaults where napari keeps none for plugins."""
    try:
        from napari.settings import get_plugin_settings

        page = get_plugin_settings(PLUGIN).segmentation
        return Settings(**{name: getattr(page, name) for name in Settings.__dataclass_fields__})
    except (ImportError, KeyError, AttributeError, ValueError):
        # napari before 0.9, or the plugin is not installed but imported
        return Settings()
