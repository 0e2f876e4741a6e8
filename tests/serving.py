"""A folder of tiny adapters of one base, and a real server of it in a thread of this process."""

import contextlib
import json
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.documents.document import Document
from d2l.errors import D2LError
from d2l.readers.parsing import Section
from d2l.serve.options import ServeOptions
from d2l.serve.server import Server
from tests import tiny
from tests.compiled import compile_tiny

#: Two of a seat network, with openings of different lengths, and two that have no opening.
ADAPTERS = {
    "pump": ("seats", tiny.DOCUMENT),
    "note": ("seats", "The lantern in the meadow is lit at 21:40."),
    "harbor": ("llama", tiny.DOCUMENT),
    "copper": ("llama", "The copper valve is opened first. Ask the keeper for the key."),
}
BASE = tiny.base_name("llama")
N_TOKENS = 12
QUESTIONS = [f"{word} {n}?" for word in ("Where is the pump", "Who has the key") for n in range(5)]


@dataclass(frozen=True)
class Shelf:
    """A folder of adapters and their base; not to be changed."""

    folder: Path
    base: Path

    @property
    def asking(self) -> AskOptions:
        return AskOptions(str(self.base), "cpu", N_TOKENS, offline=True)

    def load(self, name: str) -> AdaptedModel:
        """What `d2l ask` answers with."""
        return AdaptedModel.load(self.folder / f"{name}.lora", self.asking)


def make_shelf(root: Path) -> Shelf:
    """Compile all of them."""
    (root / "adapters").mkdir()
    for name, (kind, text) in ADAPTERS.items():
        document = Document(f"{name}.txt", "text", (Section(text),), "0" * 64, len(text))
        done = compile_tiny(root / kind / name, kind, document)
        shutil.copytree(done.adapter, root / "adapters" / f"{name}.lora")
    return Shelf(root / "adapters", done.base)


@dataclass
class Running:
    """A server that takes requests; what it remarked is in `remarks`."""

    server: Server
    remarks: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.server.address

    def client(self, **changes: Any) -> openai.OpenAI:
        """OpenAI's own client, which tries nothing twice here."""
        values = {"base_url": f"{self.address}/v1", "api_key": "none", "max_retries": 0}
        return openai.OpenAI(**(values | {"timeout": 120} | changes))


@contextlib.contextmanager
def running(shelf: Shelf, folder: Path | None = None, **options: Any) -> Iterator[Running]:
    """A server of a shelf, or of another folder; `options` are those of ServeOptions."""
    remarks: list[str] = []

    def read_document(adapter: Path) -> str:
        try:
            return ADAPTERS[adapter.name.removesuffix(".lora")][1]
        except KeyError as error:
            raise D2LError(f"{adapter.name}: its document is gone") from error

    server = Server(
        folder or shelf.folder,
        shelf.asking,
        ServeOptions(**({"port": 0} | options)),
        read_document=read_document,
        remark=remarks.append,
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield Running(server, remarks)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def say(client: openai.OpenAI, model: str, text: str, **more: Any) -> str:
    values = {"max_tokens": N_TOKENS, "temperature": 0} | more
    reply = client.chat.completions.create(model=model, messages=user(text), **values)
    return str(reply.choices[0].message.content)


def send(
    server: Running,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    method: str | None = None,
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of a raw request."""
    kind = {"Content-Type": "application/json"} if body is not None else {}
    address = f"{server.address}{path}"
    request = urllib.request.Request(address, body, kind | (headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, dict(reply.headers), json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), json.load(error)


def chat_body(**changes: Any) -> bytes:
    values = {"model": "pump", "messages": user("Where?"), "max_tokens": 2} | changes
    return json.dumps(values).encode()
