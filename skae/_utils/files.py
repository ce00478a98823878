"""Files that are written whole, and whose content is checked before it is used.

A file is a zip archive of numpy arrays and JSON, as of :func:`numpy.savez`, whose comment
is a hash of all bytes before it. Nothing in a file is run, and no size that a file claims
is believed.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Mapping
from glob import escape, glob
from typing import Any

import numpy as np

from skae._utils.errors import InvalidFileError, ModelFileError

# Bytes of the comment: a hash in hexadecimal digits.
_DIGEST_SIZE = 64
_NO_DIGEST = b"0" * _DIGEST_SIZE
# With these a zip archive begins.
_FIRST_BYTES = b"PK\x03\x04"
# Name of the JSON text among the arrays.
META = "meta.json"
# Name of the description of all objects in the file of a model.
MODEL_PART = "schema.json"


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that at any moment its name has the whole old or new content.

    Raises OSError if that fails, which names a folder that is missing; the old content is
    then still there. A process that is killed may leave a file whose name ends with
    ``.tmp`` beside it.
    """
    if os.path.isdir(path) or os.fspath(path).endswith((os.sep, "/")):
        message = "A file needs a name, and this is a folder"
        raise IsADirectoryError(errno.EISDIR, message, os.fspath(path))
    # A link stays, and the file that it leads to is replaced.
    path = os.path.realpath(path)
    # A name of its own, so that two writers of one path do not write into one file.
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    # Of a file or a link that somebody has put there, the mode "x" raises an error.
    try:
        file = open(temporary, "xb")  # noqa: SIM115  (closed by the next block)
    except FileNotFoundError:
        folder = os.path.dirname(path)
        if os.path.isdir(folder):
            raise
        # The name of the temporary file would say nothing to a user.
        message = "No such folder to write a file to"
        raise FileNotFoundError(errno.ENOENT, message, folder) from None
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    _sync_folder(os.path.dirname(path))


def _sync_folder(folder: str) -> None:
    """Wait until the names in a folder are on the disk, where a system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove files that were half written when a process was killed."""
    for leftover in glob(f"{escape(os.path.realpath(path))}.*.tmp"):
        # Another process may do the same.
        with contextlib.suppress(OSError):
            os.remove(leftover)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file."""
    with open(path, "rb") as file:
        return file.read()


def seal(archive: bytes) -> bytes:
    """Return a zip archive whose comment is the hash of all bytes before the comment."""
    buffer = io.BytesIO(archive)
    with zipfile.ZipFile(buffer, "a") as file:
        file.comment = _NO_DIGEST
    return _with_digest(buffer)


def _with_digest(buffer: io.BytesIO) -> bytes:
    """Write the hash of an archive into its comment, without a copy of the archive."""
    with buffer.getbuffer() as content:
        found = hashlib.sha256(content[:-_DIGEST_SIZE]).hexdigest().encode()
        content[-_DIGEST_SIZE:] = found
    return buffer.getvalue()


def open_sealed(sealed: bytes) -> zipfile.ZipFile:
    """Open a sealed archive; raise InvalidFileError unless each part has its true size.

    Nothing is unpacked: all parts have to be stored as they are.
    """
    if not sealed.startswith(_FIRST_BYTES):
        why = "it does not begin as one" if sealed else "it is empty"
        raise InvalidFileError(f"The file is not a file of skae: {why}.")
    content, digest = sealed[:-_DIGEST_SIZE], sealed[-_DIGEST_SIZE:]
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise InvalidFileError(
            "The file is not a file of skae, is incomplete or was changed: its content "
            "does not have the hash that is written at its end."
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(sealed))
    # The reader raises errors of many kinds for headers that contradict each other.
    except Exception as error:
        raise InvalidFileError(f"The file is no archive: {error}") from error
    if len(archive.namelist()) != len(set(archive.namelist())):
        raise InvalidFileError("The file has two parts of one name.")
    total = 0
    for part in archive.infolist():
        total += part.file_size
        is_stored = part.compress_type == zipfile.ZIP_STORED
        if not is_stored or part.file_size != part.compress_size or total > len(sealed):
            raise InvalidFileError(
                f"The size of {part.filename!r} in the file is not true."
            )
    return archive


def to_array(content: bytes) -> np.ndarray:
    """Return the array of the bytes of an .npy file; raise ValueError if they are none."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"version {version} of the format of arrays is not known")
    try:
        shape, is_fortran, dtype = read_header(file)
    # The header is a line of Python, whose parser raises errors of many kinds.
    except Exception as error:
        raise ValueError("the header of an array cannot be read") from error
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError("an array has objects or a negative size")
    # The numbers that are there, and not those that the header claims, take memory.
    values = np.frombuffer(content, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if is_fortran else "C")


def pack(arrays: Mapping[str, np.ndarray], meta: Any) -> bytes:
    """Return the content of a sealed file with arrays, by name, and an object of JSON."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(META, json.dumps(meta))
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, np.asarray(array), allow_pickle=False)
        archive.comment = _NO_DIGEST
    return _with_digest(buffer)


def unpack(content: bytes) -> tuple[dict[str, np.ndarray], Any]:
    """Return the arrays and the object of JSON of a file, or raise InvalidFileError."""
    with open_sealed(content) as archive:
        if MODEL_PART in archive.namelist():
            raise ModelFileError("It is the file of a model, for skae.load.")
        try:
            meta = json.loads(archive.read(META))
            arrays = {
                part.filename.removesuffix(".npy"): to_array(archive.read(part))
                for part in archive.infolist()
                if part.filename != META
            }
        # Readers of JSON, zip archives and arrays raise errors of many kinds.
        except Exception as error:
            raise InvalidFileError(f"A part of the file cannot be read: {error}") from error
    return arrays, meta
