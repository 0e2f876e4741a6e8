"""`d2l serve --upstream`: d2l chooses the part, an engine answers: d2l itself, or a stand-in."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
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
from d2l.serve.upstream import RoutedMessage, UpstreamServer
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
        body = found if isinstance(found, bytes) else json.dumps(found or {}).encode()
        self._write(200 if found is not None else 404, body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((json.loads(body), dict(self.headers)))
        self.server.script(self)

    def _write(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has read enough
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


PIECE = {"choices": [{"index": 0, "delta": {"content": "On\u2028\u2029\x85Monday."}}]}
EVENT = f"data: {json.dumps(PIECE, ensure_ascii=False)}\n\n".encode()


def stream(body: bytes, kind: str = "text/event-stream") -> Callable[[Engine], None]:
    return lambda handler: handler._write(200, body, kind)


def read_stream(server: Running) -> tuple[str, Any]:
    """Text of a streamed answer, and d2l's own field of its last chunk."""
    with server.client() as client:
        turns = user(MILL[1])
        chunks = list(client.chat.completions.create(model="mill", messages=turns, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    return text, (chunks[-1].model_extra or {})["d2l"]


@pytest.mark.parametrize(
    "body",
    [
        EVENT + b"data: [DONE]\n\n",
        b": ping\n\nevent: x\n\n" + EVENT.replace(b"data: ", b"data:") + b"data:[DONE]\n\n",
        EVENT,  # the engine sends no [DONE]
    ],
)
def test_events_end_at_newlines_alone_and_the_source_comes_last(
    body: bytes, exported: Shelf, engine: Any
) -> None:
    engine.script = stream(body)
    with routing(exported.folder, engine.address) as server:
        text, source = read_stream(server)
    assert (text, source["part"]) == (PIECE["choices"][0]["delta"]["content"], 1)


def test_a_refusal_of_the_engine_is_d2ls_in_whole_and_streamed_answers(
    exported: Shelf, engine: Any
) -> None:
    words = ["The document", " does not", " say."]
    events = [{"choices": [{"delta": {"content": word}}]} for word in words]
    events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    with routing(exported.folder, engine.address) as server:
        engine.script = stream(b"".join(b"data: %s\n\n" % json.dumps(e).encode() for e in events))
        text, source = read_stream(server)
        message = {"choices": [{"message": {"content": "".join(words)}}]}
        engine.script = stream(json.dumps(message).encode(), "application/json")
        whole = ask(server)[1]
    assert text == whole["choices"][0]["message"]["content"] == NOT_FOUND
    assert (source["part"], source) == (None, whole["d2l"])


DEEP = b"[" * 100_000
WRONG = "does not answer as OpenAI's interface does"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (stream(b'{"choices": []}', "application/json"), WRONG),  # it ignores `stream`
        (stream(b"data: 5\n\n"), WRONG),
        (stream(b"data: " + DEEP + b"\n\n"), WRONG),
        (stream(b"data: " + b" " * (17 << 20) + b"\n\n"), WRONG),
    ],
)
def test_a_stream_of_another_form_ends_with_an_error(
    script: Callable[[Engine], None], error: str, exported: Shelf, engine: Any
) -> None:
    engine.script = script
    with (
        routing(exported.folder, engine.address) as server,
        pytest.raises(openai.APIError, match=error),
    ):
        read_stream(server)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *(("/lora-adapters", body) for body in (DEEP, b"[5]", b'[{"path": 5}]', b" " * (17 << 20))),
        *(("/v1/models", body) for body in (DEEP, b"5", b"[5]", b'{"data": 5}', b'{"data": [5]}')),
        *((None, body) for body in (DEEP, b"5", b"[]", b"null", b'{"choices": 5}')),
        (None, b'{"choices": [{"message": {"content": 5}}]}' + b" " * (17 << 20)),
    ],
)
def test_json_of_another_form_is_a_bad_gateway(
    path: str | None, body: bytes, exported: Shelf, engine: Any
) -> None:
    engine.pages[path], engine.script = body, stream(body, "application/json")
    with routing(exported.folder, engine.address) as server:
        status, reply = ask(server)
    assert (status, WRONG in reply["error"]["message"]) == (502, True)


def test_odd_statuses_of_the_engine_are_passed_or_a_bad_gateway(
    exported: Shelf, engine: Any
) -> None:
    with routing(exported.folder, engine.address) as server:
        for status, expected in ((418, 418), (599, 599), (999, 502)):
            engine.script = partial(Engine._write, status=status, body=b"{}")
            assert ask(server)[0] == expected


def drip(head: bytes) -> Callable[[Engine], None]:
    """Send a blank now and then behind a head, for three seconds, longer than anybody waits."""

    def script(handler: Engine) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(head)
            for _ in range(30):
                handler.wfile.write(b" ")
                time.sleep(0.1)

    return script


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.0 500 No\r\n\r\n"])
def test_max_seconds_is_the_time_of_the_whole_answer(
    head: bytes, exported: Shelf, engine: Any
) -> None:
    engine.script = drip(head)
    with routing(exported.folder, engine.address, max_seconds=0.5) as server:
        assert ask(server)[0] == 504
        engine.script = drip(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        with pytest.raises(openai.APIError, match="took too long"):
            read_stream(server)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_the_engines_work(
    stream: bool, exported: Shelf, engine: Any
) -> None:
    asked, gone = threading.Event(), threading.Event()

    def wait(handler: Engine) -> None:
        asked.set()
        handler.connection.settimeout(20)
        if handler.connection.recv(1) == b"":
            gone.set()

    engine.script = wait
    with routing(exported.folder, engine.address) as server:
        body = chat_body(model="mill", messages=user(MILL[1]), stream=stream)
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
        head += f"application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(head.encode() + body)
            assert asked.wait(20)
        assert gone.wait(10)


def test_fields_by_which_an_engine_works_without_a_bound_are_dropped(
    exported: Shelf, engine: Any
) -> None:
    wild = dict.fromkeys(("n", "best_of", "n_predict", "max_new_tokens", "max_tokens"), 10**9)
    with routing(exported.folder, engine.address, max_tokens=7) as server:
        assert ask(server, **wild, max_completion_tokens=10**9, top_k=3)[0] == 200
    body = engine.asked[-1][0]
    assert (body["max_completion_tokens"], body["top_k"]) == (7, 3)
    assert not wild.keys() & body.keys()


def test_no_proxy_is_asked_for_an_engine_on_this_machine(
    exported: Shelf, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with routing(exported.folder, engine.address) as server:
        monkeypatch.delenv("HTTP_PROXY")
        monkeypatch.delenv("http_proxy")
        assert ask(server)[0] == 200


def test_the_end_of_a_large_question_chooses_and_the_engine_gets_all(
    exported: Shelf, engine: Any
) -> None:
    question = "word " * 300_000 + MILL[1]
    assert len(RoutedMessage(role="user", content=question).turn["content"]) == 5_000
    with routing(exported.folder, engine.address) as server:
        assert ask(server, messages=user(question), d2l={"page": "p. 2"})[0] == 200
    assert engine.asked[-1][0]["messages"] == user(question)


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
    for address in ("localhost:1", "http://user:password@localhost:1", "http://localhost:1?x=1"):
        with pytest.raises(OptionError, match="no address"):
            UpstreamServer(exported.folder, Upstream(address), ServeOptions(port=0))
