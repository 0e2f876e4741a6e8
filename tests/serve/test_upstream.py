"""`d2l serve --upstream`: d2l chooses the part, an engine answers: d2l itself, or a stand-in."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest

import d2l
from d2l.adapters.exported_parts import read_index
from d2l.datasets.silence import NOT_FOUND
from d2l.errors import AdapterError, OptionError
from d2l.serve.options import ServeOptions, Upstream
from d2l.serve.upstream import UpstreamServer
from tests import tiny
from tests.compiled import compile_tiny
from tests.serve.test_parts import MANUALS, QUESTIONS, make_manual
from tests.serving import N_TOKENS, Running, Shelf, chat_body, running, send, user

pytestmark = pytest.mark.usefixtures("one_thread")
MILL = QUESTIONS["mill"]


def export_parts(root: Path, to: str, pages: tuple[str, ...], **network: Any) -> Shelf:
    """Export the parts of a manual, a part of each page."""
    tiny.write_seats(root / "checkpoint", chunk_tokens=64, **network)
    done = compile_tiny(root, "seats", make_manual("mill", pages), parts=True)
    done.adapter.rename(root / "mill.lora")
    network_files = {"base": str(done.base), "checkpoint": str(done.checkpoint)}
    options: dict[str, Any] = {"device": "cpu", "local_files_only": True, **network_files}
    d2l.export(root / "mill.lora", root / "parts", to=to, **options)
    return Shelf(root / "parts", done.base)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return export_parts(tmp_path_factory.mktemp("exported"), "parts", MANUALS["mill"])


@contextlib.contextmanager
def routing(folder: Path, address: str, **options: Any) -> Iterator[Running]:
    """A server before the engine at an address."""
    server: Any = UpstreamServer(folder, Upstream(address), ServeOptions(**({"port": 0} | options)))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield Running(server)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


class Engine(BaseHTTPRequestHandler):
    """Says what the server's `script` says; keeps what it was asked."""

    server: Any

    def do_GET(self) -> None:
        found = self.server.pages.get(self.path)
        self._write(200 if found is not None else 404, json.dumps(found or {}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((json.loads(body), dict(self.headers)))
        self.server.script(self)

    def _write(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def answer(handler: Engine) -> None:
    message = {"role": "assistant", "content": "On Monday."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    reply = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    handler._write(200, json.dumps({**reply, "choices": [choice]}).encode())


@pytest.fixture
def engine() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    server.asked, server.pages, server.script = [], {}, answer
    server.address = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


# ---- d2l serve as the engine --------------------------------------------------------------------


def test_d2l_serve_of_the_parts_answers_whole_and_streamed(exported: Shelf) -> None:
    index = read_index(exported.folder)
    with (
        running(exported) as behind,
        routing(exported.folder, f"{behind.address}/v1") as server,
        server.client() as client,
        behind.client() as direct,
    ):
        assert [model.id for model in client.models.list()] == ["mill"]
        for n, question in enumerate(MILL):
            request: Any = {"messages": user(question), "max_tokens": N_TOKENS, "temperature": 0}
            expected = direct.chat.completions.create(model=index.parts[n].name, **request)
            reply = client.chat.completions.create(model="mill", **request)
            assert reply.choices[0].message.content == expected.choices[0].message.content
            assert reply.model == index.parts[n].name
            cited = (reply.model_extra or {})["d2l"]
            assert (cited["part"], cited["page"]) == (n, n + 1)
            chunks = list(client.chat.completions.create(model="mill", stream=True, **request))
            pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
            assert "".join(pieces) == expected.choices[0].message.content
            assert (chunks[-1].model_extra or {})["d2l"] == cited
        with pytest.raises(openai.NotFoundError, match="known here: mill"):
            client.chat.completions.create(model="boat", messages=user("?"))


# ---- a stand-in ---------------------------------------------------------------------------------


def ask(server: Running, **changes: Any) -> tuple[int, Any]:
    body = chat_body(**({"model": "mill", "messages": user(MILL[1])} | changes))
    status, _, reply = send(server, "/v1/chat/completions", body)
    return status, reply


def test_the_engine_gets_the_request_with_the_part_as_its_model(
    exported: Shelf, engine: Any
) -> None:
    with routing(exported.folder, engine.address, max_tokens=7) as server:
        assert ask(server, max_tokens=50, tools=[{"type": "x"}], d2l={"page": "p. 1"})[0] == 200
        assert ask(server)[1]["d2l"]["part"] == 1
    first, second = (body for body, _ in engine.asked)
    assert first["model"] == "mill-part-0000"
    assert (first["max_tokens"], first["tools"], "d2l" in first) == (7, [{"type": "x"}], False)
    assert second["model"] == "mill-part-0001"


def test_earlier_turns_choose_the_part_of_a_follow_up(exported: Shelf, engine: Any) -> None:
    turns = [*user(MILL[0]), {"role": "assistant", "content": "On Monday."}, *user("And why?")]
    with routing(exported.folder, engine.address) as server:
        assert ask(server, messages=turns)[1]["d2l"]["part"] == 0
        assert engine.asked[-1][0]["messages"] == turns
        cited = ask(server, messages=[*turns[:2], *user(MILL[1])])[1]["d2l"]
        assert engine.asked[-1][0]["messages"] == user(MILL[1])  # it stands alone
        assert (cited["part"], cited["passage"]) == (1, "The lantern hangs in the tower.")


def test_llama_cpp_gets_the_adapters_number_by_its_file(exported: Shelf, engine: Any) -> None:
    engine.pages["/lora-adapters"] = [
        {"id": 0, "path": "x\\mill-part-0001.gguf", "scale": 0.0},
        {"id": 1, "path": "/models/mill-part-0000.gguf", "scale": 0.0},
    ]
    with routing(exported.folder, engine.address) as server:
        assert ask(server)[0] == 200
        assert engine.asked[-1][0]["lora"] == [{"id": 0, "scale": 1.0}]
        assert engine.asked[-1][0]["cache_prompt"] is False
        engine.pages["/lora-adapters"].pop(0)
        status, reply = ask(server)
        assert (status, "has not loaded mill-part-0001" in reply["error"]["message"]) == (502, True)


def test_sglang_gets_the_bases_name_before_the_parts(exported: Shelf, engine: Any) -> None:
    engine.pages["/v1/models"] = {"data": [{"id": "org/base", "owned_by": "sglang"}]}
    with routing(exported.folder, engine.address) as server:
        ask(server)
    assert engine.asked[-1][0]["model"] == "org/base:mill-part-0001"


def test_errors_of_the_engine_are_passed_on(exported: Shelf, engine: Any) -> None:
    engine.script = lambda handler: handler._write(429, b'{"error": {"message": "slow down"}}')
    with routing(exported.folder, engine.address) as server:
        assert ask(server) == (429, {"error": {"message": "slow down"}})
        assert ask(server, stream=True)[0] == 429
        engine.script = lambda handler: handler._write(200, b"<html>", "text/html")
        status, reply = ask(server)
        assert (status, reply["error"]["code"]) == (502, "bad_upstream")


def test_an_engine_that_is_gone_or_slow_is_told(exported: Shelf, engine: Any) -> None:
    engine.script = lambda _: time.sleep(2)
    with routing(exported.folder, engine.address, max_seconds=0.5) as server:
        status, reply = ask(server)
        assert (status, "took too long" in reply["error"]["message"]) == (504, True)
    with routing(exported.folder, "http://127.0.0.1:9") as server:
        status, reply = ask(server)
        assert (status, "cannot be reached" in reply["error"]["message"]) == (502, True)


def test_a_stream_that_breaks_off_ends_with_an_error(exported: Shelf, engine: Any) -> None:
    def break_off(handler: Engine) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'data: {"choices": []}\n\n')

    engine.script = break_off
    with (
        routing(exported.folder, engine.address) as server,
        server.client() as client,
        pytest.raises(openai.APIError, match="broke off"),
    ):
        list(client.chat.completions.create(model="mill", messages=user(MILL[0]), stream=True))


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_manual_does_not_say_needs_no_engine(
    exported: Shelf, engine: Any, stream: bool
) -> None:
    question = user("Zwölf Boxkämpfer jagen Viktor quer")
    with routing(exported.folder, engine.address) as server, server.client() as client:
        reply: Any = client.chat.completions.create(model="mill", messages=question, stream=stream)
        if stream:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in reply)
        else:
            text = reply.choices[0].message.content
    assert (text, engine.asked) == (NOT_FOUND, [])


def test_the_clients_token_is_the_engines_unless_d2l_has_its_own(
    exported: Shelf, engine: Any
) -> None:
    for token, expected in ((None, "Bearer key"), ("key", None)):
        with routing(exported.folder, engine.address, token=token) as server:
            headers = {"Authorization": "Bearer key"}
            body = chat_body(model="mill", messages=user(MILL[0]))
            assert send(server, "/v1/chat/completions", body, headers)[0] == 200
        assert engine.asked[-1][1].get("Authorization") == expected


@pytest.mark.parametrize("wish", [{"whole": True}, {"parts": 2}, {"page": "p. 99"}, {"x": 1}])
def test_what_an_engine_cannot_read_is_refused(
    wish: dict[str, Any], exported: Shelf, engine: Any
) -> None:
    with routing(exported.folder, engine.address) as server:
        assert ask(server, d2l=wish)[0] == 400
    assert engine.asked == []


def test_a_folder_without_parts_and_an_address_that_is_none_are_refused(
    exported: Shelf, tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match="has no parts"):
        UpstreamServer(tmp_path, Upstream("http://localhost:1"), ServeOptions(port=0))
    with pytest.raises(OptionError, match="no address"):
        UpstreamServer(exported.folder, Upstream("localhost:1"), ServeOptions(port=0))
