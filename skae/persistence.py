"""Files of models that can be loaded without running code of theirs.

A file is an archive of `skops <https://skops.readthedocs.io>`_: arrays in numpy's format,
and JSON that describes all objects. The comment of the archive is a hash of its content.
Unlike a pickle, a file that somebody else made can do no more than fail to load.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import os
import pkgutil
from dataclasses import is_dataclass
from functools import cache
from types import ModuleType
from typing import Any
from zipfile import ZIP_STORED, ZipFile

from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from torch import nn

from skae._utils.capabilities import ModelPart
from skae._utils.errors import InvalidFileError
from skae._utils.files import MODEL_PART, open_sealed, read_file, seal, write_atomically
from skae._utils.memory import AllocationLimit
from skae._utils.messages import warn_user
from skae._utils.schema import check_schema, plain_schema
from skae._utils.versions import current_versions, in_words

__all__ = ["InvalidFileError", "load", "save"]


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)


# Modules and packages whose classes a saved model may have.
_HOMES = (
    "skae._data",
    "skae._module",
    "skae.estimators",
    "skae.impute",
    "skae.likelihoods",
    "skae.networks",
    "skae.objectives.schedules",
    "skae.outlier",
    "skae.spmd",
)
# Part of a file with the versions that wrote it. skops reads only parts that it knows.
_VERSIONS = "versions.json"
# Names of versions in the state of an estimator; the second is scikit-learn's own.
_KEYS = {
    "skae": "_skae_version",
    "scikit-learn": "_sklearn_version",
    "torch": "_torch_version",
}

# What torch may take to build the modules of a file: numbers for each byte (a number takes
# four or eight of them, and a module makes a few copies), and calls for each array, which
# takes two or three.
_NUMBERS_PER_BYTE, _FURTHER_NUMBERS = 3, 10**6
_CALLS_PER_PART, _FURTHER_CALLS = 20, 1000

_WAY_OUT = (
    "A file holds only objects of skae, scikit-learn, numpy and Python that are known to "
    "run no code when it is loaded. To keep others, use joblib.dump or pickle; loading "
    "these runs code, so load only those that you trust."
)

# How files of pickle and joblib begin: the opcode PROTO with the protocol; compressed by
# zlib at joblib's levels, gzip, bz2, xz, lzma or lz4.
_PICKLES = (
    *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)),
    *(b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"\x1f\x8b", b"BZh"),
    *(b"\xfd7zXZ", b"]\x00", b"\x04\x22\x4d\x18"),
)
_PICKLE_ADVICE = (
    "It looks like a pickle: use joblib.load, which runs code of the file, only if you "
    "trust it."
)


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Save a model to a file that :func:`skae.load` reads without running code of the file.

    Parameters
    ----------
    model : estimator
        An estimator of skae, fitted or not, or one of scikit-learn, such as a
        :class:`~sklearn.pipeline.Pipeline` that ends with one of skae. Of a search, save
        ``best_estimator_``.

    path : str or path-like
        Where the file is written, by convention with the ending ``.skops``. A file that is
        there is replaced, or stays whole if that fails.

    Raises
    ------
    TypeError
        If the model is no estimator, or the path no path, or if the model holds an object
        that such a file cannot hold, for example a network, a likelihood, a schedule or a
        prior of your own. Nothing is written then.
    OSError
        If the file cannot be written.
    ImportError
        If skops is not installed.

    See Also
    --------
    load : Load the file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> import skae
    >>> from skae.persistence import save
    >>> model = skae.GaussianAutoencoder(3, max_iter=2, random_state=0).fit(
    ...     load_iris().data
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "iris.skops"
    ...     save(model, path)
    ...     skae.load(path)
    GaussianAutoencoder(max_iter=2, n_components=3, random_state=0)
    """
    skops_io = _skops_io()
    _check_path(path)
    name, classes = type(model).__name__, _state_classes()
    if not isinstance(model, BaseEstimator):
        raise TypeError(f"model must be an estimator, but is of the type {name}.")
    try:
        content = skops_io.dumps(model)
        foreign = set(skops_io.get_untrusted_types(data=content)) - classes.keys()
    # Objects of users, on which skops calls methods, may raise any error.
    except Exception as error:
        raise TypeError(
            f"{name} cannot be saved to a file: {error!r}. {_WAY_OUT}"
        ) from error
    if foreign:
        is_search = hasattr(model, "best_estimator_")
        way_out = (
            "Save best_estimator_, the model that was found." if is_search else _WAY_OUT
        )
        raise TypeError(
            f"{name} cannot be saved to a file, because it holds objects of the types "
            f"{', '.join(sorted(foreign))}. {way_out}"
        )
    archive = _with_versions(content)
    try:
        with ZipFile(io.BytesIO(archive)) as parts:
            check_schema(parts, classes)
    except InvalidFileError as error:
        raise TypeError(f"{name} cannot be saved to a file. {error} {_WAY_OUT}") from error
    write_atomically(path, seal(archive))


def load(path: str | os.PathLike[str]) -> Any:
    """Load a model from a file, without running code of the file.

    The file is one of :func:`skae.persistence.save`. Objects of skae, scikit-learn, numpy
    and Python are loaded, and no others. Memory and time are at most in proportion to the
    size of the file. The model is on the CPU.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    model : estimator
        What was saved. Its parameters, attributes and results are equal, bit by bit.

    Raises
    ------
    InvalidFileError
        If the file is incomplete, was changed, or is no such file; with the versions that
        wrote it, if the file has them. It stands for any error of skops and numpy, which is
        its cause.
    TypeError
        If the path is no path.
    OSError
        If the file cannot be opened or read.
    ImportError
        If skops is not installed.

    Warns
    -----
    sklearn.exceptions.InconsistentVersionWarning
        If another version of skae wrote the file; its results may differ.

    See Also
    --------
    skae.persistence.save : Save the file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> import skae
    >>> X = load_iris().data
    >>> model = skae.GaussianAutoencoder(3, max_iter=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "iris.skops"
    ...     model.save(path)
    ...     loaded = skae.load(path)
    >>> bool((loaded.transform(X) == model.transform(X)).all())
    True
    """
    skops_io = _skops_io()
    _check_path(path)
    sealed = read_file(path)
    name, writer = os.fspath(path), ""
    try:
        classes = _state_classes()
        with open_sealed(sealed) as parts:
            writer = _writer(parts)
            check_schema(parts, classes)
            n_parts = len(parts.namelist())
        limit = AllocationLimit(
            _NUMBERS_PER_BYTE * len(sealed) + _FURTHER_NUMBERS,
            _CALLS_PER_PART * n_parts + _FURTHER_CALLS,
        )
        with limit:
            return skops_io.loads(sealed, trusted=list(classes))
    # With warnings as errors, this is no error of the file.
    except InconsistentVersionWarning:
        raise
    except InvalidFileError as error:
        reason = f"{error} {_PICKLE_ADVICE}" if _is_pickle(sealed) else error
        raise InvalidFileError(f"{name!r} cannot be loaded{writer}. {reason}") from error
    # A hostile file can make skops, numpy and our own classes raise any error.
    except Exception as error:
        raise InvalidFileError(f"{name!r} cannot be loaded{writer}: {error!r}") from error


class PersistenceMixin:
    """Method `save`, and the versions in the state of an estimator."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the estimator to a file that :func:`skae.load` reads.

        Loading the file runs no code of it, unlike a pickle.

        Parameters
        ----------
        path : str or path-like
            Where the file is written, by convention with the ending ``.skops``. A file that
            is there is replaced, or stays whole if that fails.

        Raises
        ------
        TypeError
            If the estimator holds an object that such a file cannot hold, for example a
            network, a likelihood, a schedule or a prior of your own. Nothing is written
            then.
        OSError
            If the file cannot be written.
        ImportError
            If skops is not installed.
        """
        save(self, path)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, and the versions of skae, scikit-learn and torch."""
        state = dict(super().__getstate__())  # type: ignore[call-overload]
        now = current_versions()
        return state | {_KEYS[name]: version for name, version in now.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the attributes; warn if another version of skae wrote them."""
        state = dict(state)
        now = current_versions()
        written = {name: state.pop(_KEYS[name], "unknown") for name in now}
        if written["skae"] != now["skae"]:
            warn_user(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=in_words(now),
                    original_sklearn_version=in_words(written),
                )
            )
        super().__setstate__(state)  # type: ignore[misc]


def _check_path(path: Any) -> None:
    """Raise TypeError for what is no path, such as the content of a file."""
    if not isinstance(path, (str, os.PathLike)):
        advice = " A file is read by its path, not from memory." if path is not None else ""
        raise TypeError(
            f"path must be a string or a path, but is of the type {type(path).__name__}."
            + advice
        )


def _is_pickle(content: bytes) -> bool:
    """Whether the content of a file begins like one of pickle or joblib."""
    return content.startswith(_PICKLES)


def _skops_io() -> ModuleType:
    """Import the part of skops that reads and writes, or raise ImportError."""
    try:
        return importlib.import_module("skops.io")
    except ImportError as error:
        raise ImportError(
            "Files of models need skops. Install it with: pip install 'skae[files]'"
        ) from error


@cache
def _state_classes() -> dict[str, type]:
    """Return the classes of skae that a saved model may have, by their full names.

    They are all estimators, parts of models and dataclasses of the modules in `_HOMES`. A
    torch module is none: its arrays are saved, and skae builds it again.
    """
    found = {}
    for home in map(importlib.import_module, _HOMES):
        path = getattr(home, "__path__", [])
        inside = pkgutil.iter_modules(path, f"{home.__name__}.")
        for module in (home, *(importlib.import_module(info.name) for info in inside)):
            for name, kind in vars(module).items():
                if getattr(kind, "__module__", None) == module.__name__ and _is_state(kind):
                    found[f"{module.__name__}.{name}"] = kind
    return found


def _is_state(kind: Any) -> bool:
    """Whether an object of a module is a class whose instances a saved model may have."""
    return (
        isinstance(kind, type)
        and not inspect.isabstract(kind)
        and not issubclass(kind, nn.Module)
        and (issubclass(kind, (BaseEstimator, ModelPart)) or is_dataclass(kind))
    )


def _with_versions(content: bytes) -> bytes:
    """Return an archive of skops with the versions, and with a plain schema."""
    buffer = io.BytesIO()
    with (
        ZipFile(io.BytesIO(content)) as parts,
        ZipFile(buffer, "w", ZIP_STORED) as archive,
    ):
        archive.writestr(_VERSIONS, json.dumps(current_versions()))
        for name in parts.namelist():
            part = parts.read(name)
            if name == MODEL_PART:
                part = plain_schema(part)
            archive.writestr(name, part)
    return buffer.getvalue()


def _writer(parts: ZipFile) -> str:
    """Say which versions wrote a file, if it has them."""
    if _VERSIONS not in parts.namelist():
        return ""
    versions = json.loads(parts.read(_VERSIONS))
    known = {name: str(versions[name])[:40] for name in current_versions()}
    return f" (written by {in_words(known)!r}; this is {in_words(current_versions())!r})"
