"""Pickles written opcode by opcode, and the refusals that they meet."""

import pickle
import struct
from functools import partial

from d2l.errors import CheckpointError
from d2l.hypernets.formats.pickles import TensorRecord, read_object, read_tensors
from tests.hypernets.networks import write_zip
from tests.refusals import refuse

FOREIGN = "nothing was run; this is not what a network's trainer writes: do not open it elsewhere"
DAMAGED = "the file is damaged or its download was cut short: fetch it again"


class Call:
    """Pickles as a call of `function`, and so is one when it is unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def read_all(path):
    """Read the object and every tensor in it."""
    values = read_object(path)
    return read_tensors(path, {n: v for n, v in values.items() if isinstance(v, TensorRecord)})


def refuse_path(read, path):
    """Message, without the path in front, and hint of the error that reading it raises."""
    message, hint = refuse(CheckpointError, read, path)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: "), hint


refusal = partial(refuse_path, read_all)


def refuse_program(tmp_path, program):
    """Message of the refusal of a pickle written as opcodes."""
    path = tmp_path / "pytorch_model.bin"
    write_zip(path, program)
    return refusal(path)[0]


def glob(name):
    """GLOBAL opcode."""
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def text(value):
    """BINUNICODE opcode."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    """BININT or LONG1 opcode."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def storage(key="0", n_values=6, kind="torch.FloatStorage"):
    """Program that makes a storage."""
    return b"(" + text("storage") + glob(kind) + text(key) + text("cpu") + number(n_values) + b"tQ"


def tensor(made=None, offset=0, shape=(6,), stride=(1,), hooks=b"}"):
    """Program that makes a tensor."""
    numbers = [b"(" + b"".join(number(n) for n in ns) + b"t" for ns in (shape, stride)]
    arguments = (made or storage()) + number(offset) + b"".join(numbers) + b"\x89" + hooks
    return glob("torch._utils._rebuild_tensor_v2") + b"(" + arguments + b"tR"


def in_dict(program):
    """Program of a dictionary with one value."""
    return b"\x80\x02}" + text("w") + program + b"s."
