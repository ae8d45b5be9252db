"""The errors a user can meet. Each message says what happened, to what, and what to do next."""

from __future__ import annotations


class UNetStudioError(Exception):
    """Base class of every error that this package raises on purpose."""


class AxesError(UNetStudioError):
    """The axes of an image are ambiguous, unknown or do not fit the model."""


class ImageError(UNetStudioError):
    """An image can not be read or can not be segmented."""


class ModelError(UNetStudioError):
    """A model file is missing, damaged, or does not fit what is asked of it."""


class DownloadError(ModelError):
    """A file can not be downloaded, or is not what was asked for."""


class ConsentNeeded(ModelError):
    """A model is a program, and the user has not agreed to run it."""


class RecipeError(UNetStudioError):
    """A setting is out of range or does not exist."""


class AnnotationError(UNetStudioError):
    """What was painted can not be learned from: nothing, one class only, or it does not fit."""


class BackendError(RecipeError):
    """What should run a network can not do so here."""


class OutputError(UNetStudioError):
    """A result can not be written."""


class ClickError(UNetStudioError):
    """A click session can not do what is asked of it."""


class Cancelled(UNetStudioError):
    """The user stopped the run. Not a failure."""


def cannot_read(what: object, error: OSError) -> ModelError:
    """Return the error of a file with a model that is there and can not be read.

    Parameters
    ----------
    what : object
        The file, as it is to be shown.
    error : OSError
        What opening or reading it raised.
    """
    reason = error.strerror or error
    return ModelError(f"{what} can not be read: {reason}. Check its permissions and the disk.")
