"""Bytes of a valid file → bytes that a stranger may have written; a number, the same bytes."""

import copy
import json
import random
import re
from collections.abc import Sequence
from typing import Any

#: What programs stumble over, wherever it stands.
TOKENS = (
    b"", b"\0", b'"', b"{", b"[", b"]", b"<", b"-1", b"9" * 400, b"1e999", b"NaN", b"null",
    b"\x1b[2J",
    b"\xff\xfe", b"\xed\xa0\x80", b"%s%n", b"../../x", b"\r\n", b"\xff" * 8, b"\x7f\xff\xff\xff",
    b"\0" * 8, b"a" * 3000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, 0.5, -1e308, float("nan"), float("inf"), "", "7",
    "\x1b[2J\x1b]0;b\x07", "\x9b31m", "\ud800", "x" * 999, "p. 1-99999999999", "fifo", "/dev/zero",
    [], [[]], {}, {"a": 1}, [0, 10**12], [[0, 10**10]], ["\n"],
)  # fmt: skip
_NUMBER = re.compile(rb"\d+")


def change(number: int, seeds: Sequence[bytes]) -> bytes:
    """Case `number` of a reader: one of its valid files with one to four changes."""
    chance = random.Random(number)
    data = chance.choice(seeds)
    if data[:1] in (b"{", b"[") and chance.random() < 0.5:
        return _change_json(chance, data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = chance.choice(_KINDS)(chance, data, seeds)
    return data


def _change_json(chance: random.Random, data: bytes) -> bytes:
    """Another value, or none, at one to three places of a JSON file (or of a line of one)."""
    lines = data.split(b"\n")
    at = chance.randrange(len(lines)) if len(lines) < 4 or lines[1][:1] == b"{" else 0
    try:
        values = json.loads(lines[at] if lines[at] and at else data)
    except ValueError:
        return data[: chance.randrange(len(data) + 1)]
    for _ in range(chance.choice((1, 1, 3))):
        holder: Any = values
        while isinstance(holder, dict | list) and holder:
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            key = chance.choice(keys)
            inner = holder[key]
            if not isinstance(inner, dict | list) or not inner or chance.random() < 0.3:
                holder[key] = copy.deepcopy(chance.choice(VALUES))
                if chance.random() < 0.2:
                    del holder[key]
                break
            holder = inner
    new = json.dumps(values).encode()
    return b"\n".join([*lines[:at], new, *lines[at + 1 :]]) if at else new


def _put(chance: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(TOKENS) + data[at:]


def _replace(chance: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(TOKENS) + data[at + chance.randrange(1, 9) :]


def _flip(chance: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _flip_head(chance: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    return _flip(chance, data[:64], seeds) + data[64:]


def _cut(chance: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _drop(chance: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.randrange(1, 200) :]


def _repeat(chance: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(data) + 1)
    piece = data[at : at + chance.randrange(1, 200)]
    return data[:at] + piece * chance.choice((2, 3, 60)) + data[at:]


def _splice(chance: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = chance.choice(seeds)
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def _renumber(chance: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Another number where one is written."""
    found = list(_NUMBER.finditer(data[:20_000]))
    if not found:
        return data
    one = chance.choice(found)
    new = chance.choice((b"0", b"-1", b"4294967296", b"9" * 30, b"9" * 400, b"9" * 5000, b"1e9"))
    return data[: one.start()] + new + data[one.end() :]


_KINDS = (_put, _replace, _flip, _flip_head, _cut, _drop, _repeat, _splice, _renumber)
