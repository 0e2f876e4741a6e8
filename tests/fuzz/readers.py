"""Every reader of strangers' bytes, with small valid files of its format to begin with.

A new format is an entry of `make_readers`. A reader gives something or raises
D2LError, of one line, within its time.
"""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from d2l.adapters.info import read_info
from d2l.adapters.peft_config import find_extras, module_scales
from d2l.adapters.provenance import Provenance
from d2l.bases.chat_templates import render_apart
from d2l.bases.load_errors import panics_as_errors
from d2l.bases.models import find_base
from d2l.bases.tokenizers import BaseTokenizer
from d2l.batch.rows import read_manifest
from d2l.datasets.questions import read_questions
from d2l.documents.document import Source
from d2l.documents.read import parse as parse_document
from d2l.documents.read import read_document
from d2l.errors import DocumentError
from d2l.files.tensors import read_header
from d2l.hypernets.formats.pickles import TensorRecord, read_object, read_tensors
from d2l.hypernets.networks import read_config
from d2l.readers.parsing import ParseRequest
from d2l.runtimes.gguf import is_own_gguf
from tests import tiny, tiny_tasks
from tests.bases.gguf_samples import write_gguf
from tests.fuzz.changes import change
from tests.fuzz.documents import change_document, list_files, make_documents
from tests.records import MINIMAL


@dataclass(frozen=True)
class Reader:
    """A format: valid files, and what reads and changes one. `fast`: 1,000 cases take seconds."""

    seeds: tuple[bytes, ...]
    read: Callable[[bytes], object]
    fast: bool = True
    limit_s: float = 10.0  # of the processor
    change: Callable[[int, Sequence[bytes]], bytes] = change


#: A table and subtitles, and an e-mail of two parts.
MARKED = (b'a,b\n1,"2\n3"\n', b"1\n00:01 --> 00:02\n<i>w</i>\n\n")
MAIL = (
    b"Subject: =?utf-8?q?T=C3=A4?=\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n"
    b"\n--b\nContent-Type: text/html; charset=latin1\nContent-Transfer-Encoding: quoted-printable\n"
    b"\n<p>w=E4</p>\n--b\nContent-Type: text/plain\nContent-Disposition: attachment\n\nx\n--b--\n"
)
CONFIG = {
    "base_model_name_or_path": "a/b",
    "r": 2,
    "lora_alpha": 2,
    "peft_type": "LORA",
    "target_modules": ["q_proj"],
    "rank_pattern": {"q_proj": 2},
    "alpha_pattern": {"layers.0.self_attn.q_proj": 3.5},
    "bias": "none",
    "modules_to_save": None,
}
RECORD = MINIMAL | {
    "inputs": [{"name": "a.txt", "format": "text", "sha256": "a", "size_bytes": 9, "notes": ["b"]}],
    "chunks": [
        {"index": 0, "document": "a.txt", "source": "p. 1-2", "n_tokens": 9, "ranks": [0, 2]}
    ],
    "options": {"merge": "concat", "scale": 1, "bias_scale": 1.0, "dtype": "bf16"},
    "merge_error": {"model.layers.0.mlp.up_proj": 0.25},
    "prompt": {
        "chat_template": "chat_template.jinja",
        "turns": "user",
        "opening": {"ids": [1, 2], "text": "<|im_start|>system\na", "seats": [1]},
    },
}
QUESTION = {"doc": "a", "question": "b", "answers": ["c"]}
EXAMPLE = {"input": "d", "output": "e"}
TASK = {"task": "a", "definition": "b", "descriptions": ["c"], "examples": [EXAMPLE]}
PICKLE = {"a": [1, 2.5, "x", None], "b": {"c": (True, "y")}}
LORA = "base_model.model.model.layers.0.self_attn.q_proj.lora_"


def make_readers(place: Path, files: Sequence[Path] = ()) -> dict[str, Reader]:
    """All readers; their files lie below `place`, one after the other under the same name.
    `files`: folders of real documents, which are seeds, too.

    They write to the cache, too, whose place (`D2L_CACHE_DIR`) the caller chooses.
    """
    return {
        **_make_adapter_readers(place),
        **_make_network_readers(place),
        **_make_table_readers(place),
        **_make_document_readers(files),
    }


def _make_adapter_readers(place: Path) -> dict[str, Reader]:
    tensors = save({f"{LORA}A.weight": torch.ones(2, 3), f"{LORA}B.weight": torch.ones(4, 2)})
    adapter = place / "a.lora"
    _write(adapter / "adapter_model.safetensors", tensors)
    config, record = json.dumps(CONFIG).encode(), json.dumps(RECORD).encode()
    _write(adapter / "adapter_config.json", config)

    def read_config_file(data: bytes) -> object:
        _write(adapter / "adapter_config.json", data)
        info = read_info(adapter)
        return info.rank, find_extras(info), module_scales(info.config, list(info.tensors))

    def read_record(data: bytes) -> object:
        _write(place / "b.lora" / "d2l.json", data)
        return read_info(place / "b.lora")

    def read_weights(data: bytes) -> object:
        header = read_header(_write(place / "c.lora" / "adapter_model.safetensors", data))
        return header, read_info(place / "c.lora")

    for name in ("b.lora", "c.lora"):
        shutil.copytree(adapter, place / name)

    def parse_record(data: bytes) -> object:
        try:
            values = json.loads(data)
        except (ValueError, RecursionError):
            return None
        if not isinstance(values, dict):
            return None
        return Provenance.from_json(values, source="d2l.json").to_json()

    template = tiny.CHAT_TEMPLATE.encode()
    turns = [{"role": "user", "content": "A question?"}]

    def render(data: bytes) -> object:
        return render_apart(data.decode("utf-8", "replace"), turns, source="a.jinja")

    return {
        "safetensors": Reader((tensors, save({"a": torch.ones(2).half()})), read_weights),
        "adapter_config.json": Reader((config,), read_config_file),
        "d2l.json": Reader((record,), parse_record),
        "d2l.json in its folder": Reader((record,), read_record),
        "chat template": Reader(
            (template, b"{% for m in messages %}{{ m['content'] | trim }}{% endfor %}"), render,
            fast=False, limit_s=15.0,
        ),
    }  # fmt: skip


def _make_network_readers(place: Path) -> dict[str, Reader]:
    pickled = pickle.dumps(PICKLE, protocol=2)
    stream = io.BytesIO()
    torch.save({"weight": torch.ones(2, 2), "epoch": 3}, stream)
    pieces = (_pack(pickled), stream.getvalue())
    tokenizer = tiny.tokenizer_json().encode()
    gguf = write_gguf(place / "seed.gguf").read_bytes()
    base = tiny.write_base(place / "base-seed", "llama")
    networks = {
        "seats": tiny.write_seats(place / "seats"),
        "doc-to-lora": tiny.write_doc_to_lora(place / "d2l", "llama"),
        "text-to-lora": tiny_tasks.write_place(place / "tasks") / "start",
    }

    def read_tokenizer(data: bytes) -> object:
        _write(place / "tokens" / "tokenizer.json", data)
        tokenizer = BaseTokenizer(place / "tokens")
        with panics_as_errors():
            return tokenizer.encode_slow("The pump. 42 é"), tokenizer.fast

    def read_base(data: bytes) -> object:
        _write(place / "base" / "config.json", data)
        files = find_base("a/b", override=str(place / "base"), offline=True)
        return files.config, files.family

    def read_gguf(data: bytes) -> object:
        shutil.rmtree(place / "cache", ignore_errors=True)
        return find_base("a/b", override=str(_write(place / "a.gguf", data)), offline=True)

    def read_network(folder: Path) -> Reader:
        def read(data: bytes) -> object:
            _write(folder / "config.json", data)
            return read_config(folder)

        return Reader(((folder / "config.json").read_bytes(),), read)

    def read_pickle(data: bytes) -> object:
        path = _write(place / "pytorch_model.bin", data)
        values = read_object(path)
        records = {n: v for n, v in values.items() if isinstance(v, TensorRecord)}
        return values, read_tensors(path, records)

    return {
        "pickle": Reader((pickled,), lambda data: read_pickle(_pack(data))),
        "torch zip": Reader(pieces, read_pickle),
        "tokenizer.json": Reader((tokenizer,), read_tokenizer, fast=False),
        "base config.json": Reader(((base / "config.json").read_bytes(),), read_base),
        "own gguf": Reader((gguf,), lambda data: is_own_gguf(_write(place / "b.gguf", data))),
        "gguf": Reader((gguf,), read_gguf, fast=False),
        **{f"{name} config.json": read_network(folder) for name, folder in networks.items()},
    }


def _make_table_readers(place: Path) -> dict[str, Reader]:
    rows = b"".join(json.dumps(QUESTION).encode() + b"\n" for _ in range(3))
    tasks = json.dumps(TASK).encode() + b"\n"
    task = b'{"id": "a", "description": "Say it.", "examples": "a.csv"}\n'
    manifest = task + b'{"id": "b", "input": "b"}\n'
    readers: dict[str, tuple[Any, tuple[bytes, ...], str]] = {
        "questions": (read_questions, (rows, tasks), "q.jsonl"),
        "manifest": (read_manifest, (manifest,), "m.jsonl"),
    }
    return {
        name: Reader(seeds, lambda data, read=read, file=file: read(_write(place / file, data)))
        for name, (read, seeds, file) in readers.items()
    }


def _make_document_readers(files: Sequence[Path]) -> dict[str, Reader]:
    texts = (
        b"# A\n\nSome text.\n\n- b\n- c\n\n```\nd\n```\n| e | f |\n|---|---|\n",
        b"---\na: b\n---\n# C\n",
    )

    def parse(format: str) -> Callable[[bytes], object]:
        """As the child does it, where an exception becomes a line and a crash another."""

        def read(data: bytes) -> object:
            request = ParseRequest(
                "a", data, max_chars=1_000_000, max_unpacked_bytes=1 << 24, format=format
            )
            try:
                return parse_document(request)
            except DocumentError:
                raise
            except Exception as error:
                raise DocumentError(f"a: {type(error).__name__}") from error

        return read

    def take(name: str) -> Callable[[bytes], object]:
        return lambda data: read_document(Source(name, Path(name), data=data))

    return {
        "markdown": Reader(texts, parse("markdown")),
        **{name: Reader((*texts, *MARKED), parse(name))
           for name in ("csv", "srt")},
        "eml": Reader((MAIL,), parse("eml")),
        "text": Reader((*texts, "é日本.\n".encode(), "Grüße".encode("utf-16")), take("a.txt")),
        **{name: Reader((*seeds, *(data for folder in files for data in list_files(folder, name))),
                        parse(name), fast=name == "html", change=change_document)
           for name, seeds in make_documents().items()},
    }  # fmt: skip


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _pack(data: bytes) -> bytes:
    """A checkpoint of torch around a pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3")
    return stream.getvalue()
