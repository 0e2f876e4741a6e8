"""Read a file made by `torch.save` without running any of its code.

A path in; dicts, lists (for sets, too), tuples, strings and numbers out, an `ObjectRecord` for an
object of a known class, and a `TensorRecord` for a tensor whose bytes are still in the file.

No unpickler runs: a pickle is a program, and Python's machine for it calls functions that the file
names and sets attributes (even of functions and classes that an allow-list returns). The machine
here knows the few instructions that `torch.save` writes, and its values have no behavior: a global
is a name, a call is a check of its arguments. No instruction copies a container, so time and memory
are linear in the size of the pickle.
"""

import math
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2l.errors import CheckpointError
from d2l.hypernets.formats.fields import FETCH_AGAIN, naming, show
from d2l.hypernets.formats.torch_zip import FOREIGN, list_entries, read_entry

# The released files' pickles have about 40 KB, without the tensors' bytes.
MAX_PICKLE_BYTES = 4 << 20
MAX_DIMENSIONS = 8
_LONGEST_NAME = 200
# Names in a released file, from a dump of a file that SakanaAI/doc-to-lora wrote.
_STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.HalfStorage": torch.float16,
    "torch.LongStorage": torch.int64,
}
_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_SETS = frozenset({"__builtin__.set", "builtins.set"})
_ENUMS = re.compile(
    r"peft\.utils\.peft_types\.(PeftType|TaskType)"
    r"|ctx_to_lora(\.\w+)*\.(AGGREGATOR_TYPE|POOL_FN|CTX_ENCODER_TYPE|ExperimentSetup)"
)
# Older files name the same classes in other modules of the package (SakanaAI/doc-to-lora, demo).
_CLASSES = re.compile(
    r"peft\.tuners\.lora\.config\.(LoraConfig|LoraRuntimeConfig)"
    r"|ctx_to_lora(\.\w+)*\.(HypernetConfig|AggregatorConfig|CtxEncoderArguments)"
)


@dataclass
class ObjectRecord:
    """An object of a known class: the class's short name, and its stored attributes."""

    name: str
    values: dict[str, object] | None = None


@dataclass(frozen=True)
class StorageRecord:
    """A stretch of numbers in the file, under `data/<key>`."""

    key: str
    dtype: torch.dtype
    n_values: int


@dataclass(frozen=True)
class TensorRecord:
    """A view of a storage, checked to be inside it."""

    storage: StorageRecord
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Global:
    """A name in the pickle, which is never imported."""

    name: str


def read_object(path: Path) -> dict[str, object]:
    """Read the saved dictionary; a tensor alone becomes its value of the name "". The bytes of
    tensors are not read, so this is fast for any size of file."""
    with naming(path), path.open("rb") as file:
        entries = list_entries(file)
        pickle = _find_pickle(entries)
        order = entries.get(pickle.removesuffix("data.pkl") + "byteorder")
        if order is not None and order.file_size < 16:
            text = bytes(read_entry(file, order)).decode("ascii", "replace")
            if text != "little":
                raise CheckpointError(f"has byte order {show(text)}, expected {show('little')}")
        size = entries[pickle].file_size
        if size > MAX_PICKLE_BYTES:
            raise CheckpointError(
                f"its pickle has {size} bytes, expected at most {MAX_PICKLE_BYTES}"
            )
        value = _Machine().run(bytes(read_entry(file, entries[pickle])))
        if isinstance(value, TensorRecord):  # saved without a container
            value = {"": value}
        if not isinstance(value, dict):
            raise CheckpointError(f"expected a dictionary of tensors, got {_kind(value)}")
        return value


def read_tensors(path: Path, records: Mapping[str, TensorRecord]) -> dict[str, Tensor]:
    """Read the named tensors onto the CPU; tensors that share a storage still share it."""
    with naming(path), path.open("rb") as file:
        entries = list_entries(file)
        root = _find_pickle(entries).removesuffix("data.pkl")
        wanted: dict[str, StorageRecord] = {}
        for record in records.values():
            if wanted.setdefault(record.storage.key, record.storage) != record.storage:
                raise CheckpointError(f"storage {record.storage.key} is declared in two ways")
        sizes = {s.key: s.n_values * s.dtype.itemsize for s in wanted.values()}
        total, limit = sum(sizes.values()), path.stat().st_size
        if total > limit:  # entries may overlap, so a check of each alone is not enough
            message = f"declares {total} bytes of tensors, but has only {limit} bytes"
            raise CheckpointError(message, hint=FETCH_AGAIN)
        storages = {}
        for key, storage in wanted.items():
            entry = entries.get(f"{root}data/{key}")
            got = entry.file_size if entry else 0
            if entry is None or got != sizes[key]:
                raise CheckpointError(
                    f"storage {key} has {got} bytes, expected {sizes[key]}", hint=FETCH_AGAIN
                )
            data, storages[key] = read_entry(file, entry), torch.empty(0, dtype=storage.dtype)
            if data:
                storages[key] = torch.frombuffer(data, dtype=storage.dtype)
        return {
            name: storages[r.storage.key].as_strided(r.shape, r.stride, r.offset)
            for name, r in records.items()
        }


def list_tensors(value: object) -> dict[str, TensorRecord]:
    """List the tensors in nested dictionaries and objects, by their keys joined with dots."""
    found, waiting, seen = dict[str, TensorRecord](), [("", value)], set[int]()
    while waiting:
        name, item = waiting.pop()
        if isinstance(item, TensorRecord):
            found[name] = item
        inner = item.values if isinstance(item, ObjectRecord) else item
        # A hostile pickle nests a value in itself, or a million deep.
        if isinstance(inner, dict) and id(inner) not in seen and len(name) < _LONGEST_NAME:
            seen.add(id(inner))
            waiting += [(f"{name}.{key}".lstrip("."), below) for key, below in inner.items()]
    return found


class _Machine:
    """Executes the pickle instructions of `torch.save` on values without behavior."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.outer: list[list[object]] = []  # stacks set aside by MARK
        self.memo: dict[int, object] = {}

    def run(self, program: bytes) -> object:
        """Execute a whole pickle and return its value."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # genops warns of odd escapes in names
                for opcode, argument, _ in pickletools.genops(program):
                    self._step(opcode.name, argument)
            return self.stack.pop()
        except (ValueError, IndexError, KeyError) as error:
            raise CheckpointError("its pickle is damaged", hint=FETCH_AGAIN) from error

    def _step(self, name: str, argument: Any) -> None:
        """Execute an instruction that makes or keeps plain values."""
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self.stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                self.stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE":
                self.stack.append(argument)
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_SET":
                empty = {"TUPLE": tuple, "LIST": list, "DICT": dict, "SET": list}
                self.stack.append(empty[name.removeprefix("EMPTY_")]())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [self.stack.pop() for _ in range(int(name[-1]))]
                self.stack.append(tuple(reversed(items)))
            case "MARK":
                self.outer.append(self.stack)
                self.stack = []
            case "TUPLE":
                items = self._pop_to_mark()
                self.stack.append(tuple(items))
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[argument])
            case _:
                self._act(name, argument)

    def _act(self, name: str, argument: Any) -> None:
        """Execute an instruction that fills a container, names a global or makes an object."""
        match name:
            case "APPEND":
                item = self.stack.pop()
                _extend(self.stack[-1], [item])
            case "APPENDS" | "ADDITEMS":
                items = self._pop_to_mark()
                _extend(self.stack[-1], items)
            case "SETITEM":
                value, key = self.stack.pop(), self.stack.pop()
                _update(self.stack[-1], [key, value])
            case "SETITEMS":
                items = self._pop_to_mark()
                _update(self.stack[-1], items)
            case "GLOBAL":
                self.stack.append(_name_global(str(argument).replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                parts = reversed([self.stack.pop(), self.stack.pop()])  # attribute, then module
                texts = (part if isinstance(part, str) else f"({_kind(part)})" for part in parts)
                self.stack.append(_name_global(".".join(texts)))
            case "BINPERSID":
                self.stack.append(_make_storage(self.stack.pop()))
            case "REDUCE" | "NEWOBJ":
                arguments, called = self.stack.pop(), self.stack.pop()
                execute = _call if name == "REDUCE" else _make_record
                self.stack.append(execute(called, arguments))
            case "BUILD":
                state = self.stack.pop()
                _fill_record(self.stack[-1], state)
            case _:
                raise CheckpointError(
                    f"refuses the pickle instruction {name}, which torch.save does not write",
                    hint=FOREIGN,
                )

    def _pop_to_mark(self) -> list[object]:
        items, self.stack = self.stack, self.outer.pop()
        return items


def _name_global(name: str) -> _Global:
    """Accept a known name; raises CheckpointError for others."""
    known = name in _STORAGES or name in _SETS or name in (_DICT, _TENSOR, _PARAMETER)
    if not (known or _ENUMS.fullmatch(name) or _CLASSES.fullmatch(name)):
        raise CheckpointError(f"refuses to run `{show(name)[1:-1]}`", hint=FOREIGN)
    return _Global(name)


def _call(called: object, arguments: object) -> object:
    """Compute the result of a known callable, without calling it."""
    if not isinstance(called, _Global) or not isinstance(arguments, tuple):
        raise CheckpointError(f"refuses to call {_kind(called)}", hint=FOREIGN)
    name = called.name
    if name == _DICT and len(arguments) == 0:
        return {}
    if name == _TENSOR:
        return _make_tensor(arguments)
    if name == _PARAMETER:
        match arguments:
            case (TensorRecord() as tensor, bool(), dict(hooks)) if not hooks:
                return tensor
    if name in _SETS and len(arguments) == 1 and isinstance(arguments[0], list):
        return arguments[0]  # no set: hashing crafted items could take endless time
    if _ENUMS.fullmatch(name) and len(arguments) == 1 and isinstance(arguments[0], str):
        return arguments[0]
    raise CheckpointError(f"refuses to call `{name}` with these arguments", hint=FOREIGN)


def _make_record(called: object, arguments: object) -> ObjectRecord:
    if not isinstance(called, _Global) or not _CLASSES.fullmatch(called.name):
        shown = f"`{called.name}`" if isinstance(called, _Global) else _kind(called)
        raise CheckpointError(f"refuses to make an object of {shown}", hint=FOREIGN)
    if arguments != ():
        raise CheckpointError(f"refuses to call `{called.name}` with arguments", hint=FOREIGN)
    return ObjectRecord(called.name.rpartition(".")[2])


def _fill_record(target: object, state: object) -> None:
    """Set an object's attributes; a dictionary (`_metadata` of a state dict) gets none."""
    if not isinstance(state, dict) or not isinstance(target, ObjectRecord | dict):
        message = f"refuses to set the state of {_kind(target)} from {_kind(state)}"
        raise CheckpointError(message, hint=FOREIGN)
    if isinstance(target, ObjectRecord):
        hidden = next((name for name in state if name.startswith("__")), None)
        if hidden is not None or target.values is not None:
            shown = show(hidden or "its state again")[1:-1]
            raise CheckpointError(f"refuses to set `{shown}` of `{target.name}`", hint=FOREIGN)
        target.values = state


def _make_storage(identity: object) -> StorageRecord:
    """Check a persistent id: ("storage", type, key, device, number of values)."""
    match identity:
        case ("storage", _Global(name), str(key), str(), int(n_values)) if (
            name in _STORAGES and re.fullmatch(r"[0-9]{1,9}", key) and 0 <= n_values < 1 << 40
        ):
            return StorageRecord(key, _STORAGES[name], n_values)
    raise CheckpointError("refers to something that is not a tensor's storage", hint=FOREIGN)


def _make_tensor(arguments: tuple[object, ...]) -> TensorRecord:
    """Check that a tensor is inside its storage, before a view is made."""
    match arguments:
        case (
            StorageRecord() as storage,
            int(offset),
            tuple(shape),
            tuple(stride),
            bool(),
            dict(hooks),
        ) if not hooks:
            counts = (*shape, *stride)
            fits = all(type(value) is int and 0 <= value < 1 << 40 for value in counts)
            if not (offset >= 0 and fits):
                raise CheckpointError("a tensor's shape is not made of counts", hint=FOREIGN)
            if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
                raise CheckpointError("a tensor's shape and strides do not fit", hint=FOREIGN)
            size = math.prod(shape)
            last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
            # More values than the storage has (strides of 0) would let a small file grow.
            if size > storage.n_values or (size > 0 and last >= storage.n_values):
                raise CheckpointError(
                    f"a tensor reaches outside storage {storage.key} of {storage.n_values} values",
                    hint=FETCH_AGAIN,
                )
            return TensorRecord(storage, offset, shape, stride)
    raise CheckpointError(f"refuses to call `{_TENSOR}` with these arguments", hint=FOREIGN)


def _extend(target: object, items: list[object]) -> None:
    if not isinstance(target, list):
        raise CheckpointError(f"refuses to add items to {_kind(target)}", hint=FOREIGN)
    target.extend(items)


def _update(target: object, items: list[object]) -> None:
    # Layers are numbered: their keys become names, too.
    keys = [str(key) if type(key) is int else key for key in items[::2]]
    if not isinstance(target, dict) or not all(isinstance(key, str) for key in keys):
        message = f"refuses to set items of {_kind(target)} by keys that are not names"
        raise CheckpointError(message, hint=FOREIGN)
    target.update(zip(keys, items[1::2], strict=True))


def _kind(value: object) -> str:
    if isinstance(value, _Global):
        return f"`{value.name}`"
    return f"`{value.name}`" if isinstance(value, ObjectRecord) else f"a {type(value).__name__}"


def _find_pickle(entries: Mapping[str, zipfile.ZipInfo]) -> str:
    names = [name for name in entries if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(names) != 1:
        raise CheckpointError(f"has {len(names)} data.pkl entries, expected 1", hint=FETCH_AGAIN)
    return names[0]
