"""What storage back ends raise becomes an error of ours, and nothing else does."""

from __future__ import annotations

import pytest

from unet_studio.errors import Cancelled, ImageError, UNetStudioError, storage_errors


def raised(error: BaseException) -> pytest.ExceptionInfo:
    with (
        pytest.raises(BaseException) as caught,
        storage_errors(
            lambda why: ImageError(f"A part could not be read: {why}. Look at the disk.")
        ),
    ):
        raise error
    return caught


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError("bad chunk"), "bad chunk"), (ZeroDivisionError(), "ZeroDivisionError"),
     (StopIteration(), "StopIteration")],
)  # fmt: skip
def test_any_error_of_a_back_end_is_told_with_what_to_do(error, words):
    caught = raised(error)
    assert caught.type is ImageError
    assert str(caught.value) == f"A part could not be read: {words}. Look at the disk."
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [MemoryError(), Cancelled("stopped"), UNetStudioError("known"), KeyboardInterrupt()]
)
def test_what_callers_answer_themselves_goes_through(error):
    assert raised(error).value is error
