"""Errors of a user's code that Python would misread."""

import os
import traceback
from pathlib import Path
from types import FrameType, TracebackType

import sklearn
import torch

# Code that calls functions of a user.
_LIBRARIES = (
    f"{Path(__file__).parents[1]}{os.sep}",
    f"{Path(sklearn.__file__).parent}{os.sep}",
    f"{Path(torch.__file__).parent}{os.sep}",
)


class InvalidFileError(ValueError):
    """A file that is broken, hostile, or not one that skae can read.

    It is raised in place of any error of the readers of archives, JSON, arrays and skops.
    """

    # Its public name, for tracebacks and pickles.
    __module__ = "skae.persistence"


class ModelFileError(InvalidFileError):
    """The file of a model, where another one is expected."""


class NoStopIteration:
    """Context that raises a RuntimeError in place of StopIteration, and names the source.

    A loop around the call would take StopIteration for its own end, and end silently. It
    must not be inside a generator of contextlib, which would raise StopIteration again.
    """

    def __enter__(self) -> None:
        """Do nothing: the error is looked at when the block ends."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raise RuntimeError if the block ended with StopIteration."""
        # Python makes a RuntimeError of one that has gone through a generator.
        if isinstance(error, RuntimeError) and isinstance(error.__cause__, StopIteration):
            error = error.__cause__
        if isinstance(error, StopIteration):
            raise RuntimeError(
                f"{_source(error)} raised StopIteration, which must not leave a function "
                "that fit calls. To end the training, return True from the method "
                "on_fit_task_end of a callback."
            ) from error


def _source(error: StopIteration) -> str:
    """Return the name of the function of the user that the library called."""
    name, is_library = "A function", True
    for frame, _ in traceback.walk_tb(error.__traceback__):
        was_library, is_library = is_library, _is_library(frame)
        if was_library and not is_library:
            name = frame.f_code.co_qualname
            if "self" in frame.f_locals:
                owner = type(frame.f_locals["self"]).__name__
                name = f"{owner}.{frame.f_code.co_name}"
    return name


def _is_library(frame: FrameType) -> bool:
    """Whether a frame is code of skae, scikit-learn or torch."""
    return frame.f_code.co_filename.startswith(_LIBRARIES)
