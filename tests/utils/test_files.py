"""Tests of files: written whole or not at all, and never believed."""

import errno
import io
import os
import threading
import tracemalloc
import zipfile
import zlib
from hashlib import sha256

import numpy as np
import pytest

from skae._utils import files
from skae._utils.errors import InvalidFileError
from skae._utils.files import (
    open_sealed,
    pack,
    read_file,
    seal,
    to_array,
    unpack,
    write_atomically,
)

OLD, NEW = b"old content", b"the new content, which is longer"
ARRAYS = {
    "weights": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6).reshape(3, 2)),
    "number": np.float32(2.5),
    "empty": np.zeros((0, 4)),
    "text": np.array(["a", "bc"]),
    "big_endian": np.arange(3, dtype=">i8"),
    "flags": np.array([True, False]),
    "not finite": np.array([np.nan, np.inf, -0.0]),
    "deep/name": np.arange(2, dtype=np.uint8),
}
META = {"version": 1, "history": [0.1, None, "ü"]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(OLD)
    return path


class FullDisk(io.FileIO):
    """A file on a disk that is full after some bytes."""

    room = 0

    def write(self, content):
        super().write(content[: self.room])
        raise OSError(errno.ENOSPC, "No space left on device")


def assert_old(path):
    """Assert that a file has its old content, and that its folder has no other file."""
    assert path.read_bytes() == OLD
    assert os.listdir(path.parent) == [path.name]


def test_a_file_is_written(path):
    write_atomically(path, NEW)
    assert read_file(path) == NEW
    write_atomically(os.fspath(path), OLD)
    assert_old(path)


def test_a_disk_that_is_full_at_any_byte(path, monkeypatch):
    """What could be written is removed, and the old content stays."""
    monkeypatch.setattr(files, "open", FullDisk, raising=False)
    for room in range(len(NEW) + 1):
        monkeypatch.setattr(FullDisk, "room", room)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, NEW)
        assert_old(path)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["open", "write", "flush", "close", "fsync", "replace"])
def test_any_call_that_fails(path, monkeypatch, call, error):
    """Each step of a write may raise; also an interrupt of the user."""

    def fail(*args):
        raise error

    class Failing(io.FileIO):
        def close(self):
            super().close()
            if call == "close":
                raise error

    if call == "open":
        monkeypatch.setattr(files, "open", fail, raising=False)
    elif call in ("fsync", "replace"):
        monkeypatch.setattr(os, call, fail)
    else:
        if call != "close":
            setattr(Failing, call, fail)
        monkeypatch.setattr(files, "open", Failing, raising=False)
    with pytest.raises(type(error)):
        write_atomically(path, NEW)
    monkeypatch.undo()
    assert_old(path)


def test_places_that_cannot_be_written(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="No such folder") as caught:
        write_atomically(tmp_path / "none" / "model", NEW)
    assert caught.value.filename == os.path.realpath(tmp_path / "none")
    assert caught.value.errno == errno.ENOENT
    assert ".tmp" not in str(caught.value)
    with pytest.raises(NotADirectoryError):
        write_atomically(path / "model", NEW)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(folder, NEW)
    folder.rmdir()
    assert_old(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(path):
    path.parent.chmod(0o555)
    try:
        with pytest.raises(PermissionError):
            write_atomically(path, NEW)
    finally:
        path.parent.chmod(0o755)
    assert_old(path)


def test_a_link_stays(path, tmp_path):
    """The file that a link leads to is replaced, also if there is none yet."""
    for target in (path, tmp_path / "later"):
        link = tmp_path / f"link to {target.name}"
        link.symlink_to(target)
        write_atomically(link, NEW)
        assert link.is_symlink()
        assert target.read_bytes() == NEW
        assert not target.is_symlink()


def test_a_link_that_somebody_has_put_beside_it(path, tmp_path, monkeypatch):
    """A temporary file is never written through a link, and a link is not removed."""
    victim = tmp_path / "victim"
    victim.write_bytes(OLD)
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "guessed")
    planted = path.with_name("model.guessed.tmp")
    planted.symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_atomically(path, NEW)
    assert path.read_bytes() == victim.read_bytes() == OLD
    assert planted.is_symlink()


def test_writers_and_a_reader_at_one_time(path):
    """A reader sees one whole content, however many write."""
    contents = [bytes([i]) * 10_000 for i in range(3)]

    def write(content):
        for _ in range(10):
            write_atomically(path, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        seen.add(read_file(path))
    for thread in threads:
        thread.join()
    assert seen <= {OLD, *contents}
    assert os.listdir(path.parent) == [path.name]


def archive_of(parts, compression=zipfile.ZIP_STORED):
    """Return a zip archive with parts by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def resealed(content):
    """Return content, whose last 64 bytes are replaced by its hash."""
    return content[:-64] + sha256(content[:-64]).hexdigest().encode()


SEALED = seal(archive_of({"a": b"first", "b": b"second"}))


def test_a_sealed_archive_is_an_archive():
    with open_sealed(SEALED) as archive:
        assert archive.read("a") == b"first"
    assert zipfile.ZipFile(io.BytesIO(SEALED)).read("b") == b"second"
    assert resealed(SEALED) == SEALED


def test_each_byte_is_under_the_seal():
    """Any other byte, any end and anything after the end is found."""
    for i in range(len(SEALED)):
        changed = bytearray(SEALED)
        changed[i] ^= 1 << i % 8
        for broken in (bytes(changed), SEALED[:i]):
            match = "hash" if broken.startswith(b"PK\3\4") else "begin as one|is empty"
            with pytest.raises(InvalidFileError, match=match):
                open_sealed(broken)
    with pytest.raises(InvalidFileError, match="hash"):
        open_sealed(SEALED + b"\0")


def test_what_is_no_archive():
    for content in (b"", b"x" * 63, b"x" * 64, b"x" * 1000):
        with pytest.raises(InvalidFileError):
            open_sealed(content)
    with pytest.raises(InvalidFileError, match="not a file of skae"):
        open_sealed(resealed(b"x" * 1000))


def test_a_compressed_part_is_refused():
    """A megabyte of zeros takes a thousand bytes, and a gigabyte a million."""
    bomb = seal(archive_of({"a": bytes(2**20)}, zipfile.ZIP_DEFLATED))
    assert len(bomb) < 2**12
    with pytest.raises(InvalidFileError, match="size"):
        open_sealed(bomb)


@pytest.mark.parametrize("size", [0, 4, 6, 2**31, 2**32 - 2])
def test_sizes_in_headers_are_not_believed(size):
    """The directory says 4 GB; the part has 5 bytes."""
    broken = bytearray(SEALED)
    entry = broken.index(b"PK\x01\x02")
    for offset in (20, 24):
        broken[entry + offset : entry + offset + 4] = size.to_bytes(4, "little")
    with pytest.raises(InvalidFileError):
        unpack(resealed(bytes(broken)))


def test_a_part_that_says_that_it_is_compressed():
    broken = bytearray(SEALED)
    broken[broken.index(b"PK\x01\x02") + 10] = zipfile.ZIP_DEFLATED
    with pytest.raises(InvalidFileError, match="size"):
        open_sealed(resealed(bytes(broken)))


def test_parts_that_overlap_are_refused():
    """A thousand names of one part would take a thousand times the bytes of the file."""
    single = archive_of({"a": bytes(5000)})
    start = single.index(b"PK\x01\x02")
    end = single.index(b"PK\x05\x06")
    names = [bytes([97 + i]) for i in range(20)]
    entries = [single[start:end][:-1] + name for name in names]
    tail = bytearray(single[end:])
    tail[8:10] = tail[10:12] = len(names).to_bytes(2, "little")
    tail[12:16] = sum(map(len, entries)).to_bytes(4, "little")
    tail[20:22] = (64).to_bytes(2, "little")
    content = single[:start] + b"".join(entries) + bytes(tail) + b"0" * 64
    with pytest.raises(InvalidFileError, match="size"):
        open_sealed(resealed(content))


def test_two_parts_of_one_name_are_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"two")
    with pytest.raises(InvalidFileError, match="one name"):
        open_sealed(seal(buffer.getvalue()))


def npy(array):
    """Return an array as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def with_header(header, content=bytes(48), version=1):
    """Return an .npy file with any header."""
    text = header.encode()
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + len(text).to_bytes(2, "little")
        + text
        + content
    )


def header(shape, descr="'<f8'", order="False"):
    """Return the text of a header."""
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name):
    given = ARRAYS[name]
    found = to_array(npy(given))
    assert found.dtype == given.dtype
    assert found.shape == given.shape
    assert found.tobytes() == given.tobytes()


def test_headers_that_are_true():
    assert to_array(with_header(header("(2, 3)"))).shape == (2, 3)
    assert to_array(with_header(header("(3, 2)", order="True"))).flags.f_contiguous


@pytest.mark.parametrize(
    "text",
    [
        header("(7,)"),
        header("(5,)"),
        header("(-6,)"),
        header("(-1, 6)"),
        header("(2, -3)"),
        header("(10**12,)"),
        header("(1000000000000,)"),
        header("(4294967296, 4294967296)"),
        header("(6.0,)"),
        header("6"),
        header("(6,)", descr="'|O'"),
        header("(6,)", descr="[('a', '|O')]"),
        header("(6,)", descr="'<U0'"),
        header("(99999999999,)", descr="'|V0'"),
        header("(1,)", descr="'<U1000000000'"),
        header("(6,)", descr="'no dtype'"),
        header("(6,)", order="1"),
        "{}",
        "-" * 9000 + "1",
        "1+" * 4900 + "1",
        "[" * 4000,
        "(" * 90 + ")" * 90,
        "__import__('os').abort()",
        "",
    ],
)
def test_headers_that_are_not_true(text):
    """The numbers that are there take memory, and not those that the header claims."""
    tracemalloc.start()
    with pytest.raises(ValueError):  # noqa: PT011  (numpy's own words)
        to_array(with_header(text))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("version", [0, 3, 9])
def test_versions_that_are_not_known(version):
    with pytest.raises(ValueError, match="version"):
        to_array(with_header(header("(6,)"), version=version))


def test_an_array_that_is_cut_or_longer():
    whole = npy(np.arange(5.0))
    for content in (*(whole[:i] for i in range(len(whole))), whole + b"\0" * 8):
        with pytest.raises(ValueError):  # noqa: PT011  (numpy's own words)
            to_array(content)


def test_pack_and_unpack():
    arrays, meta = unpack(pack(ARRAYS, META))
    assert meta == META
    assert list(arrays) == list(ARRAYS)
    for name, given in ARRAYS.items():
        assert arrays[name].dtype == given.dtype
        assert arrays[name].tobytes() == given.tobytes()


def test_objects_are_not_packed():
    with pytest.raises(ValueError, match="Object arrays"):
        pack({"a": np.array([{}])}, {})
    with pytest.raises(TypeError, match="JSON"):
        pack({}, {"a": object()})


def test_objects_are_not_unpacked():
    """The bytes of a pickle inside an array are refused before pickle sees them."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}]), allow_pickle=True)
    hostile = seal(archive_of({"meta.json": b"{}", "a.npy": buffer.getvalue()}))
    with pytest.raises(InvalidFileError, match="part"):
        unpack(hostile)


@pytest.mark.parametrize(
    "meta", [b"", b"{", b"[" * 10**5, b"\xff", b'{"a":' * 10**5, b"9" * 10**5]
)
def test_json_that_is_none(meta):
    with pytest.raises(InvalidFileError):
        unpack(seal(archive_of({"meta.json": meta})))


def test_a_file_without_its_json():
    with pytest.raises(InvalidFileError, match="meta"):
        unpack(seal(archive_of({"a.npy": npy(np.zeros(2))})))


def test_any_byte_changed_before_the_seal():
    """With a true hash, the reader of archives sees what was changed; it has a checksum."""
    packed = pack({"a": np.arange(3.0)}, {"b": 1})
    n_refused = 0
    for i in range(len(packed) - 64):
        changed = bytearray(packed)
        changed[i] ^= 1 << i % 8
        try:
            arrays, meta = unpack(resealed(bytes(changed)))
        except InvalidFileError:
            n_refused += 1
        else:
            assert sum(array.nbytes for array in arrays.values()) <= len(packed)
            assert isinstance(meta, dict)
    # The rest are times and flags of parts, which say nothing of their content.
    assert n_refused > 0.55 * len(packed)


def test_the_checksum_of_a_part_is_true():
    packed = bytearray(pack({}, {"b": 1}))
    place = packed.index(b'{"b"')
    packed[place + 5 : place + 7] = b" 7"
    with pytest.raises(InvalidFileError, match="CRC"):
        unpack(resealed(bytes(packed)))
    # One who makes the checksum true as well has written a file of their own.
    true = zlib.crc32(packed[place : place + 8]).to_bytes(4, "little")
    for header_of_part in (b"PK\x03\x04", b"PK\x01\x02"):
        start = packed.index(header_of_part) + (14 if header_of_part[2] == 3 else 16)
        packed[start : start + 4] = true
    assert unpack(resealed(bytes(packed))) == ({}, {"b": 7})
