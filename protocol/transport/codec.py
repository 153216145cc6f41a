"""Messages as bytes and back. What is read may be hostile: every length and type is checked, and nothing is executed.

A message is the list of its fields in the order of their declaration, in msgpack; arrays and ciphertexts are raw
little-endian bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, get_type_hints

import msgpack
import numpy as np

from protocol.errors import RemoteProtocolError
from protocol.messages import MESSAGES
from protocol.messages.message import Message
from protocol.numbers import Ciphertexts, FloatArray, IntArray, Residues, Words

# No message has more fields, no field more parts.
_MOST_ENTRIES = 16


M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """Write a message's fields in order; the same message gives the same bytes."""
    hints = _field_types(type(message).__name__)
    packed: bytes = msgpack.packb(
        [_WRITERS[hint](getattr(message, name)) for name, hint in hints.items()]
    )
    return packed


def decode(kind: type[M], body: bytes) -> M:
    """Read a message back; raises RemoteProtocolError for anything but the declared fields and types.

    Who sent it and what it was to be, the channel adds.
    """
    hints = _field_types(kind.__name__)
    values = unpack(body)
    if not isinstance(values, list) or len(values) != len(hints):
        raise _malformed(kind.__name__)
    return kind(
        *(
            _READERS[hint](value, kind.__name__)
            for value, hint in zip(values, hints.values(), strict=True)
        )
    )


def unpack(data: bytes) -> Any:
    """Read hostile bytes; None for what nobody here writes.

    An array announces its length before its entries come, and nests: without a bound on both, kilobytes could
    ask for gigabytes.
    """
    try:
        return msgpack.unpackb(
            data, max_array_len=_MOST_ENTRIES, max_map_len=0, max_ext_len=0, max_str_len=1024
        )
    except (ValueError, msgpack.UnpackException):
        return None


def ciphertexts(message: Message) -> int:
    """Return the number of ciphertexts a message carries."""
    values = (getattr(message, field.name) for field in fields(message))
    return sum(len(value) for value in values if isinstance(value, Ciphertexts))


@cache  # to look them up takes longer than all else that writes a small message
def _field_types(kind: str) -> dict[str, Any]:
    hints = get_type_hints(MESSAGES[kind])
    return {field.name: hints[field.name] for field in fields(MESSAGES[kind])}


def _array_writer(dtype: str) -> Callable[[Any], list[object]]:
    def write(array: Any) -> list[object]:
        return [list(array.shape), np.ascontiguousarray(array, dtype=dtype).tobytes()]

    return write


def _array_reader(dtype: str) -> Callable[[Any, str], Any]:
    def read(value: object, kind: str) -> Any:
        match value:
            case [[*shape], bytes(data)] if _holds(shape, len(data) // 8) and len(data) % 8 == 0:
                return np.frombuffer(data, dtype=dtype).reshape(shape)
        raise _malformed(kind)

    return read


def _holds(shape: list[object], number: int) -> bool:
    """Whether one or two dimensions are those of ``number`` entries."""
    sizes = [size for size in shape if type(size) is int and 0 <= size < 2**32]
    return len(sizes) == len(shape) in (1, 2) and math.prod(sizes) == number


def _number_reader(number: type[Ciphertexts] | type[Residues]) -> Callable[[Any, str], Any]:
    def read(value: object, kind: str) -> Any:
        match value:
            case [int(width), bytes(data)] if width > 0 and len(data) % width == 0:
                return number(width, data)
        raise _malformed(kind)

    return read


def _plain_reader(plain: type) -> Callable[[Any, str], Any]:
    def read(value: object, kind: str) -> Any:
        if type(value) is not plain:
            raise _malformed(kind)
        return value

    return read


_PLAIN: tuple[type, ...] = (int, bool, str, bytes)


_WRITERS: dict[Any, Callable[[Any], Any]] = {
    **{plain: lambda value: value for plain in _PLAIN},
    FloatArray: _array_writer("<f8"),
    IntArray: _array_writer("<i8"),
    Words: _array_writer("<u8"),
    Ciphertexts: lambda value: [value.width, value.data],
    Residues: lambda value: [value.width, value.data],
}


_READERS: dict[Any, Callable[[Any, str], Any]] = {
    **{plain: _plain_reader(plain) for plain in _PLAIN},
    FloatArray: _array_reader("<f8"),
    IntArray: _array_reader("<i8"),
    Words: _array_reader("<u8"),
    Ciphertexts: _number_reader(Ciphertexts),
    Residues: _number_reader(Residues),
}


def _malformed(kind: str) -> RemoteProtocolError:
    declared = ", ".join(_field_types(kind)) or "none"
    return RemoteProtocolError(f"malformed: expected the declared fields ({declared})")
