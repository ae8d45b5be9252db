"""The errors a user can meet. Each message says what happened, to what, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


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


class SchedulerLost(OutputError):
    """What hands a batch out to workers went away; what was finished is kept."""


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


@contextmanager
def storage_errors(told: Callable[[str], UNetStudioError]) -> Iterator[None]:
    """Raise whatever a storage back end raises as an error of ours.

    Zarr, dask, remote stores and file systems have no error in common. What is one of ours
    goes through, and so does MemoryError, which callers answer with smaller parts.

    Parameters
    ----------
    told : callable
        Takes what the back end said and returns the error; only the caller knows what was
        read or written, and what to do next.
    """
    try:
        yield
    except (UNetStudioError, MemoryError):
        raise
    except Exception as error:
        raise told(str(error) or type(error).__name__) from error
