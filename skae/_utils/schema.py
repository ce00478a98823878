"""The parts of a model file, checked before skops reads them.

The file says of each object by which class of skops it is read, and of which type it is.
skops trusts whole families of types. Some of them take as much memory as a number in the
file says, or crash the process later. Here is what a model needs, and nothing else.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from zipfile import ZipFile

import numpy as np

from skae._utils.errors import InvalidFileError
from skae._utils.files import META, MODEL_PART, to_array

# An object of the schema: its type, how it is read, and its content.
Node = dict[str, Any]

_PLAIN = {f"builtins.{name}" for name in ("bool", "complex", "float", "int", "str")}
# Types of what each class of skops reads. Of an empty set, the types are checked elsewhere:
# skops knows the elementwise functions of numpy and scipy, and the types of scikit-learn.
_TYPES: dict[str, set[str]] = {
    "BytesNode": {"builtins.bytes"},
    "DictNode": {"builtins.dict", "collections.OrderedDict"},
    "FunctionNode": set(),
    "JsonNode": {"builtins.str"},
    "ListNode": {"builtins.list"},
    "NdArrayNode": set(),
    "ObjectNode": set(),
    "RandomStateNode": {"numpy.random.mtrand.RandomState"},
    "SliceNode": {"builtins.slice"},
    "TupleNode": {"builtins.tuple"},
    "TypeNode": set(),
}
# Characters of a key that is no text. Whole numbers with so few digits have hashes of their
# own; many longer ones could share one, and a dictionary of them would take hours.
_MOST_KEY_DIGITS = 18
# What reads objects that are equal if they look equal.
_WITHOUT_IDENTITY = ("JsonNode", "TypeNode")
# Numbers of the state of the Mersenne Twister.
_TWISTER = 624


def plain_schema(content: bytes) -> bytes:
    """Return the description of all objects that skops wrote, as :func:`check_schema` asks.

    An object that is at several places is equal at all of them, and has a small number in
    place of an address in memory. Numbers, texts and types have none. White space is left
    out.
    """
    schema = _same_copies(json.loads(content), {})
    return json.dumps(schema, separators=(",", ":")).encode()


def _same_copies(value: Any, first: dict[int, Node]) -> Any:
    """Return JSON in which objects of one identity are equal; ``first`` has them by it."""
    if isinstance(value, list):
        return [_same_copies(item, first) for item in value]
    if not isinstance(value, dict):
        return value
    identity = value.get("__id__")
    # The keys of a dictionary may be any; then a key of this name has an object.
    if not isinstance(identity, int):
        return {name: _same_copies(item, first) for name, item in value.items()}
    if value["__loader__"] in _WITHOUT_IDENTITY:
        return {name: item for name, item in value.items() if name != "__id__"}
    if identity not in first:
        node = first[identity] = {}
        number = len(first)
        node |= {name: _same_copies(item, first) for name, item in value.items()}
        node["__id__"] = number
    return first[identity]


def check_schema(archive: ZipFile, classes: Mapping[str, type]) -> None:
    """Raise unless all objects of a model file are of kinds that a model needs.

    ``classes`` are skae's own, by their full names. Raises InvalidFileError for what is not
    such a file, and errors of many other kinds for one whose parts contradict each other.
    """
    if META in archive.namelist():
        raise InvalidFileError(
            "It is a checkpoint: pass its path to an estimator as the parameter checkpoint."
        )
    first: dict[Any, Node] = {}
    parts: set[str] = set()
    waiting: list[Node] = [json.loads(archive.read(MODEL_PART))]
    while waiting:
        node = waiting.pop()
        if identity := node.get("__id__"):
            # skops reads the first object of an identity only. Without the others in full,
            # few lines could stand for endlessly many objects.
            if identity in first:
                if first[identity] != node:
                    _refuse("two objects of one identity")
                continue
            first[identity] = node
        if "file" in node:
            # skops reads a part again for each object that names it.
            if node["file"] in parts:
                _refuse(f"two objects of one part, {node['file']!r}")
            parts.add(node["file"])
        waiting += _check_node(node, archive, classes)


def _check_node(
    node: Node, archive: ZipFile, classes: Mapping[str, type]
) -> Iterable[Node]:
    """Check one object, and return those inside. See :func:`check_schema`."""
    loader, name = node["__loader__"], _name(node)
    if loader not in _TYPES or name not in (_TYPES[loader] or {name}):
        _refuse(f"an object of type {name!r}, read by {loader!r}")
    if loader == "DictNode":
        return _check_dict(node)
    if loader in ("ListNode", "TupleNode"):
        return list(node["content"])
    if loader == "NdArrayNode":
        return _check_array(node, archive)
    if loader == "ObjectNode":
        return _check_object(node, classes.get(name))
    if loader == "RandomStateNode":
        return _check_random_state(node, archive)
    if loader == "TypeNode":
        _check_type(node)
    return []


def _refuse(what: str) -> None:
    """Raise InvalidFileError."""
    raise InvalidFileError(f"It has {what}, which no model has.")


def _name(node: Node) -> str:
    """Return the full name of the type of an object."""
    return f"{node['__module__']}.{node['__class__']}"


def _check_dict(node: Node) -> Iterable[Node]:
    """Check the keys of a dictionary."""
    content, key_types = node["content"], node["key_types"]
    types = [_name(key_type) for key_type in key_types["content"]]
    if len(types) != len(content):
        _refuse("a dictionary with other keys than types")
    for key, kind in zip(content, types, strict=True):
        if kind != "builtins.str" and len(key) > _MOST_KEY_DIGITS:
            _refuse(f"a dictionary with the key {key[:40]!r}")
    return key_types, *content.values()


def _check_array(node: Node, archive: ZipFile) -> Iterable[Node]:
    """Check an array, or a number of numpy."""
    name = _name(node)
    if node["type"] == "json" and name == "numpy.ndarray":
        return node["shape"], *node["content"]
    array = to_array(archive.read(node["file"]))
    # Types such as numpy.bytes_ take an array of one number for a size.
    is_number = not array.shape and name == f"numpy.{array.dtype.type.__name__}"
    if name != "numpy.ndarray" and not is_number:
        _refuse(f"an array of type {name!r}")
    return []


def _check_object(node: Node, kind: type | None) -> Iterable[Node]:
    """Check the attributes of an object of skae; None stands for other types."""
    attributes = node.get("content")
    if attributes is None:
        return []
    if kind is not None:
        for name in attributes["content"]:
            if callable(getattr(kind, name, None)):
                _refuse(f"a {kind.__name__} with another method {name!r}")
    return [attributes]


def _check_random_state(node: Node, archive: ZipFile) -> Iterable[Node]:
    """Check a generator of numpy, which believes any position in its own numbers."""
    content = node["content"]
    state = content["content"]["state"]
    position, key = state["content"]["pos"], state["content"]["key"]
    loaders = [each["__loader__"] for each in (content, state, position, key)]
    if loaders != ["DictNode", "DictNode", "JsonNode", "NdArrayNode"]:
        _refuse("a random state of another form")
    index, numbers = json.loads(position["content"]), to_array(archive.read(key["file"]))
    is_index = type(index) is int and 0 <= index <= _TWISTER
    # From zeros all draws are 0, and a draw from the normal distribution never ends.
    is_key = numbers.dtype == np.uint32 and numbers.shape == (_TWISTER,)
    if not is_index or not is_key or not numbers[1:].any():
        _refuse("a random state that is none")
    return [content]


def _check_type(node: Node) -> None:
    """Check a type that is a value, such as a dtype."""
    own = getattr(np, node["__class__"], None) if node["__module__"] == "numpy" else None
    is_number = isinstance(own, type) and issubclass(own, (np.number, np.bool))
    if not is_number and _name(node) not in _PLAIN:
        _refuse(f"a value that is the type {_name(node)!r}")
