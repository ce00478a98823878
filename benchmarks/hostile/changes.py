"""Ways to break a sealed file, each from a random number generator of Python.

A function whose name begins with ``resealed`` makes the hash true again, so that the
readers of archives, JSON and arrays, and skops see what was changed.
"""

import ast
import hashlib
import io
import json
import zipfile
from pathlib import Path

# What a value in JSON is replaced by, beside other values of the same file.
_NUMBERS = (0, -1, 1, 624, 2**31, 2**63, 10**9, 10**30, 1e308, True, None, "", [], {})
_WORDS = (Path(__file__).parent / "words.txt").read_text().split()
_SIZES = (0, 1, -1, 2**31, 2**62, 10**12, 1.5, True)
_DTYPES = [
    "<f8",
    "<f4",
    ">f8",
    "|O",
    "|V0",
    "|V9",
    "<U0",
    "<U99999999",
    "|S1",
    "<M8[s]",
    "<c16",
    "|b1",
    "<i8",
    "nonsense",
]


def reseal(content):
    """Return content whose hash at the end is true."""
    content = content[:-64]
    return content + hashlib.sha256(content).hexdigest().encode()


def with_parts(whole, change):
    """Return a sealed archive whose parts, by name, a function has changed."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        archive.comment = b"0" * 64
    return reseal(buffer.getvalue())


def change_bytes(content, rng):
    """Change one to eight bytes."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def truncate(content, rng):
    """Leave out the end."""
    return content[: rng.randrange(len(content))] if content else content


def extend(content, rng):
    """Append bytes."""
    return content + rng.randbytes(rng.randint(1, 1000))


def swap_blocks(content, rng):
    """Exchange two blocks of one size."""
    size = rng.randint(1, max(1, len(content) // 4))
    a = rng.randrange(max(1, len(content) // 2 - size + 1))
    b = rng.randint(len(content) // 2, max(len(content) // 2, len(content) - size))
    first, second = content[a : a + size], content[b : b + size]
    return content[:a] + second + content[a + size : b] + first + content[b + size :]


_BLIND = (change_bytes, truncate, extend, swap_blocks)


def resealed_bytes(whole, rng):
    """Change bytes anywhere."""
    return reseal(rng.choice(_BLIND)(whole[:-64], rng) + whole[-64:])


def resealed_directory(whole, rng):
    """Change sizes, places and names in the directory of the archive."""
    find = rng.choice((whole.index, whole.rindex))
    start = find(b"PK\x01\x02")
    changed = change_bytes(whole[start : start + 46], rng)
    return reseal(whole[:start] + changed + whole[start + 46 :])


def resealed_part(whole, rng):
    """Change bytes of a part, whose checksum is made true."""

    def change(parts):
        name = rng.choice(list(parts))
        parts[name] = rng.choice(_BLIND)(parts[name], rng)

    return with_parts(whole, change)


def resealed_json(whole, rng):
    """Replace or remove values of the JSON, which stays JSON."""

    def change(parts):
        name = "schema.json" if "schema.json" in parts else "meta.json"
        root = json.loads(parts[name])
        for _ in range(rng.randint(1, 3)):
            places = list(_places(root))
            if not places:
                break
            (holder, key), (other, its_key) = rng.choice(places), rng.choice(places)
            new = rng.choice((rng.choice(_NUMBERS), rng.choice(_WORDS), other[its_key]))
            if rng.random() < 0.1:
                del holder[key]
            else:
                as_text = rng.random() < 0.3
                holder[key] = json.dumps(new) if as_text else json.loads(json.dumps(new))
        parts[name] = json.dumps(root).encode()

    return with_parts(whole, change)


def _places(value):
    """Yield the holder and the key of everything inside JSON."""
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from _places(inner)


def resealed_header(whole, rng):
    """Let the header of an array claim another shape, dtype or order."""

    def change(parts):
        name = rng.choice([name for name in parts if name.endswith(".npy")])
        content = parts[name]
        end = 10 + int.from_bytes(content[8:10], "little")
        header = ast.literal_eval(content[10:end].decode().strip())
        size = rng.choice(_SIZES)
        key = rng.choice(list(header))
        header[key] = {
            "shape": rng.choice(((size,), (size, size), (0, size), size, (1,) * 65)),
            "descr": rng.choice((*_DTYPES, [("a", "<f8", (size,))])),
            "fortran_order": rng.choice((True, 1, "yes")),
        }[key]
        text = repr(header).encode()
        parts[name] = content[:8] + len(text).to_bytes(2, "little") + text + content[end:]

    return with_parts(whole, change)


CHANGES = {
    "bytes changed": change_bytes,
    "truncated": truncate,
    "extended": extend,
    "blocks swapped": swap_blocks,
    "resealed, bytes": resealed_bytes,
    "resealed, directory": resealed_directory,
    "resealed, part": resealed_part,
    "resealed, JSON": resealed_json,
    "resealed, header": resealed_header,
}
