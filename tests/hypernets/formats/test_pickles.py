import builtins
import os
import pickle
import subprocess
import sys
from collections import OrderedDict

import pytest
import torch

from d2l.hypernets.formats import pickles
from d2l.hypernets.formats.pickles import (
    ObjectRecord,
    StorageRecord,
    TensorRecord,
    list_tensors,
    read_object,
    read_tensors,
)
from tests.hypernets.networks import make_config, make_tensors, write_released, write_zip
from tests.hypernets.programs import (
    DAMAGED,
    FOREIGN,
    Call,
    glob,
    in_dict,
    number,
    refusal,
    refuse_program,
    storage,
    tensor,
    text,
)

# ---- what torch.save writes ---------------------------------------------------------------------


def test_layers_are_numbered_and_a_parameter_stands_alone(tmp_path):
    path = tmp_path / "metalora.pth"
    leaf = torch.randn(1, 2, requires_grad=True)
    torch.save({0: {"q": {"A": leaf, "C": None}}, 1: {}}, path)
    records = list_tensors(read_object(path))
    assert torch.equal(read_tensors(path, records)["0.q.A"], leaf)
    torch.save(torch.nn.Parameter(leaf), path)
    records = list_tensors(read_object(path))
    assert torch.equal(read_tensors(path, records)[""], leaf)


@pytest.mark.parametrize("keys", [b"", b"".join(text("k") + b"}" for _ in range(3000))])
def test_values_that_nest_for_ever_end(tmp_path, keys):
    path = tmp_path / "pytorch_model.bin"
    own = b"\x80\x02}q\x00" + keys + text("k") + b"h\x00" + b"s" * (1 + len(keys) // 7) + b"."
    write_zip(path, own)
    assert list_tensors(read_object(path)) == {}


def test_reads_what_torch_reads(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    wide = torch.randn(4, 6)
    saved = OrderedDict(
        wide=wide,
        row=wide[1],
        turned=wide.T,
        half=torch.randn(3).half(),
        bf16=torch.randn(2, 2).bfloat16(),
        whole=torch.arange(5),
        one=torch.tensor(2.5),
        none=torch.zeros(0, 3),
    )
    torch.save(saved, path)
    records = read_object(path)
    assert list(records) == list(saved)
    got = read_tensors(path, records)
    wanted = torch.load(path, weights_only=True)
    for name in saved:
        assert got[name].dtype == wanted[name].dtype
        assert got[name].stride() == wanted[name].stride()
        assert torch.equal(got[name], wanted[name])
    assert got["row"].untyped_storage().data_ptr() == got["wide"].untyped_storage().data_ptr()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_every_protocol_that_torch_can_write(tmp_path, protocol):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.ones(2), "n": {"a": [1, -(2**40)]}}, path, pickle_protocol=protocol)
    values = read_object(path)
    assert values["n"] == {"a": [1, -(2**40)]}
    assert torch.equal(read_tensors(path, {"w": values["w"]})["w"], torch.ones(2))


def test_known_objects_become_records(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    config = make_config(target_modules=("down_proj", "q_proj"))
    write_released(path, config, make_tensors(config))
    network = read_object(path)["hypernet_config"]
    assert isinstance(network, ObjectRecord)
    assert network.name == "HypernetConfig"
    lora = network.values["lora_config"]
    assert sorted(lora.values["target_modules"]) == ["down_proj", "q_proj"]
    assert lora.values["peft_type"] == "LORA"
    sizes = {"down_proj": 12, "q_proj": 8}, {"down_proj": 8, "q_proj": 10}
    assert network.values["feature_sizes"] == sizes
    indices = network.values["layer_indices"]
    assert indices == TensorRecord(StorageRecord("48", torch.int64, 3), 0, (3,), (1,))


def test_device_tags_are_ignored_and_no_class_is_imported(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    program = in_dict(tensor(storage().replace(text("cpu"), text("cuda:7"))))
    write_zip(path, program, {"0": torch.arange(6.0).numpy().tobytes()})
    before = set(sys.modules)
    assert torch.equal(read_tensors(path, read_object(path))["w"], torch.arange(6.0))
    assert {m for m in set(sys.modules) - before if m.startswith("ctx_to_lora")} == set()


def test_reading_the_object_does_not_read_tensors(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    write_zip(path, in_dict(tensor(storage(n_values=2**39), shape=(2**39,))))
    assert read_object(path)["w"].shape == (2**39,)
    message, hint = refusal(path)
    assert message.startswith("declares 2199023255552 bytes of tensors, but has only ")
    assert hint == DAMAGED


def test_state_of_a_dictionary_is_dropped(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    write_zip(path, in_dict(glob("collections.OrderedDict") + b")R}" + text("items") + b"Nsb"))
    assert read_object(path) == {"w": {}}


# ---- hostile programs ---------------------------------------------------------------------------


def payloads(marker):
    """Objects that run something when unpickled, with the name that they must be refused by."""
    touch = f"touch {marker}"
    array = torch.zeros(1).numpy()
    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "system": (Call(os.system, touch), "posix.system"),
        "eval": (Call(eval, code), "builtins.eval"),
        "exec": (Call(exec, code), "builtins.exec"),
        "popen": (Call(subprocess.Popen, ["touch", str(marker)]), "subprocess.Popen"),
        "getattr": (Call(getattr, Call(__import__, "os"), "system"), "builtins.getattr"),
        "open": (Call(open, str(marker), "w"), f"{open.__module__}.open"),
        "torch_load": (Call(torch.load, str(marker)), "torch.serialization.load"),
        "jit": (Call(torch.jit.load, str(marker)), "torch.jit._serialization.load"),
        "partial": (Call(pickle.loads, b""), "_pickle.loads"),
        "numpy": (array, f"{array.__reduce__()[0].__module__}._reconstruct"),
        "old_tensor": (
            Call(torch._utils._rebuild_tensor, 1, 2, 3, 4),
            "torch._utils._rebuild_tensor",
        ),
        "device": (torch.device("cpu"), "torch.device"),
        "path": (marker, f"{type(marker).__module__}.PosixPath"),
    }


PAYLOADS = sorted(payloads("x"))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("place", ["top", "value", "deep", "id"])
@pytest.mark.parametrize("name", PAYLOADS)
def test_payload_is_refused_by_name_and_runs_nothing(tmp_path, name, place, protocol):
    marker = tmp_path / "ran"
    payload, known_as = payloads(marker)[name]
    if protocol == 2:  # which spells some names as Python 2 did
        known_as = known_as.replace("builtins.", "__builtin__.").replace("subprocess", "commands")
        known_as = known_as.replace("_pickle", "pickle")
    deep = {"a": [{"b": (1, {"c": payload})}]}
    nested = {"top": payload, "value": {"head.weight": payload}, "deep": deep, "id": payload}
    program = pickle.dumps(nested[place], protocol=protocol)
    if place == "id":
        program = program[:-1] + b"Q."
    path = tmp_path / "pytorch_model.bin"
    write_zip(path, program)
    message, hint = refusal(path)
    assert message == f"refuses to run `{known_as}`"
    assert hint == FOREIGN
    assert not marker.exists()


@pytest.mark.parametrize("name", ["system", "eval", "exec", "popen", "open"])
def test_payloads_are_live(tmp_path, name):
    """Python's own unpickler does run them, so the refusals above mean something."""
    marker = tmp_path / "ran"
    made = pickle.loads(pickle.dumps(payloads(marker)[name][0], protocol=2))
    if name == "popen":
        made.wait()
    if name == "open":
        made.close()
    assert marker.exists()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("os.system", "os.system"),
        ("nt.system", "nt.system"),
        ("__builtin__.getattr", "__builtin__.getattr"),
        ("builtins.set.__init__", "builtins.set.__init__"),
        ("collections.OrderedDict.__reduce__", "collections.OrderedDict.__reduce__"),
        ("torch._utils._rebuild_tensor_v2.__globals__", "torch._utils._rebuild_tensor_v2.__glo"),
        ("torch.storage._load_from_bytes", "torch.storage._load_from_bytes"),
        ("torch.FloatStorage.from_file", "torch.FloatStorage.from_file"),
        ("ctx_to_lora.modeling.hypernet.HyperLoRA", "ctx_to_lora.modeling.hypernet.HyperLoRA"),
        ("ctx_to_lora.HypernetConfig.__init__", "ctx_to_lora.HypernetConfig.__init__"),
        ("ctx_to_lora_evil.HypernetConfig", "ctx_to_lora_evil.HypernetConfig"),
        ("peft.tuners.lora.config.LoraConfig.from_pretrained", "peft.tuners.lora.config.Lora"),
        ("a.b\x1b[31m", r"a.b\x1b[31m"),
        ("x." + "y" * 500, "x." + "y" * 78 + "…"),
    ],
)
def test_names_around_the_known_ones_are_refused(tmp_path, name, shown):
    for program in (glob(name), stack_global(name)):
        message = refuse_program(tmp_path, in_dict(program + b")R"))
        assert message.startswith(f"refuses to run `{shown}")


def stack_global(name):
    """STACK_GLOBAL: splits after the first part, so that the attribute may be dotted."""
    module, _, attribute = name.partition(".")
    return text(module) + text(attribute) + b"\x93"


def test_dotted_attribute_of_a_known_module_is_refused(tmp_path):
    program = text("collections") + text("OrderedDict.__reduce__") + b"\x93"
    message = refuse_program(tmp_path, in_dict(program))
    assert message == "refuses to run `collections.OrderedDict.__reduce__`"
    program = text("collections") + b"N\x93"
    assert refuse_program(tmp_path, in_dict(program)) == "refuses to run `collections.(a NoneType)`"


ORDERED, REBUILD = glob("collections.OrderedDict"), glob("torch._utils._rebuild_tensor_v2")
PARAMETER = glob("torch._utils._rebuild_parameter")
CONFIG = glob("ctx_to_lora.a.HypernetConfig") + b")\x81"
NO_STORAGE = "refers to something that is not a tensor's storage"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        # a call of something that is not a global, or of a known one with foreign arguments
        (text("os.system") + b")R", "call a str"),
        (ORDERED + b"NR", "call `collections.OrderedDict`"),
        (ORDERED + b"(" + text("x") + b"tR", "call `collections.OrderedDict` with these arguments"),
        (glob("__builtin__.set") + b"(" + glob("builtins.set") + b"tR", "call `__builtin__.set`"),
        (glob("peft.utils.peft_types.PeftType") + b"(]tR", "call `peft.utils.peft_types.PeftType`"),
        (glob("torch.FloatStorage") + b")R", "call `torch.FloatStorage` with these arguments"),
        (glob("ctx_to_lora.configs.CtxEncoderArguments") + b")R", "call `ctx_to_lora.configs.Ctx"),
        (REBUILD + b")R", "call `torch._utils._rebuild_tensor_v2` with these arguments"),
        # hooks of a tensor would be called by autograd
        (tensor(hooks=b"}" + text("k") + glob("builtins.set") + b"s"), "call `torch._utils._rebu"),
        # objects of foreign classes, or with arguments
        (ORDERED + b")\x81", "make an object of `collections.OrderedDict`"),
        (text("x") + b")\x81", "make an object of a str"),
        (glob("peft.tuners.lora.config.LoraConfig") + b"(" + text("x") + b"t\x81", "call `peft.t"),
        # state: of functions, classes, tensors and strings; not a dictionary; with magic names
        (REBUILD + b"}b", "set the state of `torch._utils._rebuild_tensor_v2` from a dict"),
        (REBUILD + b"(N}tb", "set the state of `torch._utils._rebuild_tensor_v2` from a tuple"),
        (tensor() + b"}b", "set the state of a TensorRecord from a dict"),
        (text("x") + b"}b", "set the state of a str from a dict"),
        (CONFIG + b"(N}tb", "set the state of `HypernetConfig` from a tuple"),
        (CONFIG + b"}" + text("__class__") + b"Nsb", "set `__class__` of `HypernetConfig`"),
        (CONFIG + b"}" + text("__setstate__") + b"Nsb", "set `__setstate__` of `HypernetConfig`"),
        (CONFIG + b"}b}b", "set `its state again` of `HypernetConfig`"),
        # containers
        (b"}()" + number(2) + b"u", "set items of a dict by keys that are not"),
        # parameters of foreign things, or with hooks
        (PARAMETER + b"(" + text("x") + b"\x89}tR", "call `torch._utils._rebuild_parameter` with"),
        (PARAMETER + b"(" + tensor() + b"\x89NtR", "call `torch._utils._rebuild_parameter` with"),
        (PARAMETER + b")R", "call `torch._utils._rebuild_parameter` with these arguments"),
        (text("x") + text("k") + b"Ns", "set items of a str by keys that are not names"),
        (b")Na", "add items to a tuple"),
        (glob("builtins.set") + b"(Ne", "add items to `builtins.set`"),
        # persistent ids
        (b"(" + text("storage") + b"tQ", NO_STORAGE),
        (text("x") + b"Q", NO_STORAGE),
        (storage(kind="builtins.set"), NO_STORAGE),
        (storage(key="../x"), NO_STORAGE),
        (storage(n_values=-1), NO_STORAGE),
        (storage(n_values=2**70), NO_STORAGE),
        (storage(kind="os.system"), "run `os.system`"),
        (storage(kind="torch.IntStorage"), "run `torch.IntStorage`"),
        # instructions that torch.save never writes
        (b"\x82\x01", "the pickle instruction EXT1"),
        (b"\x83\x01\x00", "the pickle instruction EXT2"),
        (b"\x84\x01\x00\x00\x00", "the pickle instruction EXT4"),
        (b"(ios\nsystem\n", "the pickle instruction INST"),
        (b"(o", "the pickle instruction OBJ"),
        (b"Pos.system\n", "the pickle instruction PERSID"),
        (b"N)}\x92", "the pickle instruction NEWOBJ_EX"),
        (b"N2", "the pickle instruction DUP"),
        (b"\x97", "the pickle instruction NEXT_BUFFER"),
        (b"I99\n", "the pickle instruction INT"),
        (b"C\x01x", "the pickle instruction SHORT_BINBYTES"),
        # nonsense
        (b"tttt", "its pickle is damaged"),
        (b"h\x63", "its pickle is damaged"),
        (b"}(" + text("k") + b"u", "its pickle is damaged"),
        (b"\xff", "its pickle is damaged"),
        (b"X\xff\xff\xff\xff", "its pickle is damaged"),
        (b"\x8d" + b"\xff" * 8, "its pickle is damaged"),
        (b"c\xff\n\xff\n", "its pickle is damaged"),
    ],
)
def test_hostile_programs_are_refused(tmp_path, program, message):
    refused = refuse_program(tmp_path, in_dict(program)).removeprefix("refuses ")
    assert refused.removeprefix("to ").startswith(message)


def test_functions_and_classes_of_the_reader_cannot_be_changed(tmp_path):
    """The attack: BUILD with slot state sets attributes of what an allow-list returned."""
    state = b"(N}" + text("__code__") + text("x") + b"st"
    for name in ("torch._utils._rebuild_tensor_v2", "collections.OrderedDict", "builtins.set"):
        refuse_program(tmp_path, in_dict(glob(name) + state + b"b"))
    assert torch._utils._rebuild_tensor_v2.__code__.co_name == "_rebuild_tensor_v2"
    assert builtins.set is type({1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (7,)}, "a tensor reaches outside storage 0 of 6 values"),
        ({"shape": (3, 2), "stride": (4, 1)}, "a tensor reaches outside storage 0 of 6 values"),
        ({"offset": 1}, "a tensor reaches outside storage 0 of 6 values"),
        ({"offset": 2**62}, "a tensor reaches outside storage 0 of 6 values"),
        ({"offset": -1}, "a tensor's shape is not made of counts"),
        ({"shape": (-6,)}, "a tensor's shape is not made of counts"),
        ({"stride": (-1,)}, "a tensor's shape is not made of counts"),
        ({"shape": (2**100,), "stride": (0,)}, "a tensor's shape is not made of counts"),
        # a stride of zero would let 24 bytes of file become terabytes of tensor
        ({"shape": (2**39,), "stride": (0,)}, "a tensor reaches outside storage 0 of 6 values"),
        ({"shape": (6, 1)}, "a tensor's shape and strides do not fit"),
        ({"shape": (1,) * 9, "stride": (1,) * 9}, "a tensor's shape and strides do not fit"),
    ],
)
def test_tensors_outside_their_storage_are_refused(tmp_path, changes, message):
    assert refuse_program(tmp_path, in_dict(tensor(**changes))) == message


def test_programs_cannot_grow(tmp_path):
    """A list of lists of lists… and sets of one long list: linear in the pickle's size here."""
    doubling = b"]q\x00" + b"".join(
        b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(100)
    )
    path = tmp_path / "pytorch_model.bin"
    write_zip(path, in_dict(b"(" + doubling + b"t"))
    assert len(read_object(path)["w"][100]) == 2
    long_list = b"](" + b"".join(text(str(i)) for i in range(20_000)) + b"eq\x00"
    sets = (glob("builtins.set") + b"h\x00\x85R") * 20_000
    write_zip(path, in_dict(b"(" + long_list + sets + b"t"))
    items = read_object(path)["w"]
    assert all(item is items[0] for item in items)


def test_large_pickle_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "pytorch_model.bin"
    monkeypatch.setattr(pickles, "MAX_PICKLE_BYTES", 1000)
    write_zip(path, in_dict(text("x" * 2000)))
    assert refusal(path)[0] == "its pickle has 2016 bytes, expected at most 1000"


def test_other_values_than_dictionaries_are_refused(tmp_path):
    assert refuse_program(tmp_path, b"].") == "expected a dictionary of tensors, got a list"
    assert refuse_program(tmp_path, text("x") + b".").endswith("got a str")


# ---- storages -----------------------------------------------------------------------------------


def test_storage_of_another_size_is_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    write_zip(path, in_dict(tensor()), {"0": b"\0" * 20})
    assert refusal(path) == ("storage 0 has 20 bytes, expected 24", DAMAGED)
    write_zip(path, in_dict(tensor()), {"1": b"\0" * 24})
    assert refusal(path) == ("storage 0 has 0 bytes, expected 24", DAMAGED)


def test_storage_declared_in_two_ways_is_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    half = tensor(storage(kind="torch.HalfStorage"))
    program = b"\x80\x02}(" + text("a") + tensor() + text("b") + half + b"u."
    write_zip(path, program, {"0": b"\0" * 24})
    assert refusal(path)[0] == "storage 0 is declared in two ways"
