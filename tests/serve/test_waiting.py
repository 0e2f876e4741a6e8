"""What waits, what gives up, and what goes wrong while the server works."""

import contextlib
import http.client
import logging
import shutil
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest

from d2l.serve import web
from d2l.serve.client import Client
from tests.serving import QUESTIONS, Running, Shelf, chat_body, running, say, send, user

pytestmark = pytest.mark.usefixtures("one_thread")


def start_long(server: Running, **changes: Any) -> http.client.HTTPConnection:
    """A request that takes long, sent and not waited for."""
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=60)
    long = {"model": "harbor", "max_tokens": 400, "temperature": 2, "seed": 5}
    body = chat_body(**(long | changes))
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    return connection


def wait_for(server: Running, **wanted: Any) -> None:
    end = time.monotonic() + 30
    while not wanted.items() <= send(server, "/health")[2].items():
        assert time.monotonic() < end, send(server, "/health")[2]
        time.sleep(0.01)


def test_a_full_line_is_said_and_empties_again(shelf: Shelf) -> None:
    with running(shelf, max_waiting=1) as server, server.client() as client:
        first = start_long(server)
        wait_for(server, busy=True, waiting=0)
        second = start_long(server, max_tokens=5)
        wait_for(server, waiting=1)
        status, headers, body = send(server, "/v1/chat/completions", chat_body())
        assert (status, body["error"]["code"]) == (503, "overloaded")
        assert headers["retry-after"] == "1"
        first.close()
        assert second.getresponse().status == 200
        second.close()
        assert say(client, "pump", "Where?")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_is_worked_for_no_longer(stream: bool, shelf: Shelf) -> None:
    with running(shelf, max_tokens=100_000) as server, server.client() as client:
        working, waiting = start_long(server, stream=stream), start_long(server, stream=stream)
        wait_for(server, busy=True, waiting=1)
        began = time.monotonic()
        for connection in (waiting, working):
            assert connection.sock is not None
            connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()
        wait_for(server, busy=False, waiting=0)
        assert time.monotonic() - began < 20
        assert say(client, "pump", "Where?")


def test_a_request_ends_when_its_time_is_over(shelf: Shelf) -> None:
    with running(shelf, max_seconds=0.3) as server, server.client() as client:
        with contextlib.suppress(openai.InternalServerError):
            say(client, "harbor", "?")  # loads, which may take all of its time
        reply = client.chat.completions.create(
            model="harbor", messages=user("Where?"), max_tokens=400, temperature=2, seed=5
        )
        assert reply.usage is not None
        assert reply.usage.completion_tokens < 300
        assert reply.choices[0].finish_reason == "length"  # OpenAI has no other word
        assert (reply.model_extra or {})["d2l"]["finish"] == "timeout"
        turns: Any = user("Where?")
        client_of_ask = Client(server.address)
        for model in ("harbor", client_of_ask.base or ""):
            fields = {"max_tokens": 400, "temperature": 2, "seed": 5}
            answer = client_of_ask.answer(model, turns, lambda _: None, fields)
            assert answer.source["finish"] == "timeout"


def test_a_damaged_adapter_is_an_error_of_its_own(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(shelf.folder, tmp_path / "adapters")
    weights = folder / "copper.lora" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with running(shelf, folder) as server, server.client() as client:
        for _ in range(2):
            with pytest.raises(openai.InternalServerError, match=r"copper\.lora"):
                say(client, "copper", "?")
            assert say(client, "pump", QUESTIONS[0]) == shelf.load("pump").ask(QUESTIONS[0])
        assert "adapter_model.safetensors" in caplog.text


def test_a_panic_of_tokenizers_is_a_failure_and_the_server_lives(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    panic = type("PanicException", (BaseException,), {})

    def fail(*_: object, **__: object) -> None:
        raise panic("no such token")

    with running(shelf) as server, server.client(timeout=20) as client:
        with monkeypatch.context() as patch:
            patch.setattr("d2l.answer.torch_engine.decode", fail)
            with pytest.raises(openai.InternalServerError, match="RuntimeError"):
                say(client, "pump", "?")
        assert say(client, "pump", QUESTIONS[0]) == shelf.load("pump").ask(QUESTIONS[0])


@pytest.mark.parametrize("stream", [False, True])
def test_the_cause_of_a_failure_stands_in_the_log(
    stream: bool, shelf: Shelf, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the cause")

    with running(shelf) as server:
        monkeypatch.setattr("d2l.answer.torch_engine.decode", fail)
        monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
        caplog.set_level(logging.INFO, "d2l")
        connection = start_long(server, stream=stream)
        told = connection.getresponse().read()
        connection.close()
        assert b"the server failed (ZeroDivisionError)" in told
        assert send(server, "/health")[0] == 200
    rows = [(record.levelname, record.getMessage()) for record in caplog.records]
    warning = ("WARNING", "a request failed: ZeroDivisionError: the cause")
    assert [row for row in rows if row[0] != "INFO"] == [warning]
    assert ("INFO", "Traceback (most recent call last):") in rows  # which -v shows
    assert not any("\n" in text for _, text in rows)


def test_a_stopped_server_answers_all_that_wait_and_logs_nothing(
    shelf: Shelf, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(shelf, max_tokens=100_000) as server:
        monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
        waiting = [start_long(server, stream=stream) for stream in (False, True, False, True)]
        wait_for(server, busy=True, waiting=3)
        began = time.monotonic()
    assert time.monotonic() - began < 2  # less than uvicorn waits for connections
    for connection in waiting:
        assert b"the server is stopping" in connection.getresponse().read()
        connection.close()
    assert caplog.text == ""


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
HALF = b"GET / HTTP/1.1\r\nHost: loc"
LONG = b"Content-Length: 99\r\n\r\n"


def connect(server: Running, data: bytes) -> socket.socket:
    """A connection that has sent this and waits."""
    host, _, port = server.address.removeprefix("http://").rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(data)
    return connection


@pytest.mark.parametrize(
    ("data", "later"),
    [(b"", b""), (b"", HALF), (HEALTH + b"\r\n", HALF), (HEALTH + LONG, b"x")],
    ids=["silent", "half a head", "half a second head", "a body after its answer"],
)
def test_a_connection_that_brings_no_request_is_closed(
    data: bytes, later: bytes, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_HEAD_SECONDS", 0.2)
    with running(shelf) as server, connect(server, data) as connection:
        if data:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        with contextlib.suppress(ConnectionError):
            connection.sendall(later)
            while connection.recv(65536):  # until the server closes it
                pass
        assert send(server, "/health")[0] == 200


def test_refused_connections_are_one_line_of_the_log(
    shelf: Shelf, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_MAX_CONNECTIONS", 2)
    monkeypatch.setattr(web._SELDOM, "passed", {})
    with running(shelf) as server, connect(server, HALF):
        monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
        for _ in range(3):
            with pytest.raises(urllib.error.HTTPError, match="503"):
                urllib.request.urlopen(f"{server.address}/health", timeout=10)
    assert caplog.text.count("Exceeded concurrency limit.") == 1


def test_an_answer_may_take_longer_than_heads_may(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_HEAD_SECONDS", 0.05)
    with running(shelf) as server:
        connection = start_long(server)
        assert connection.getresponse().status == 200
        connection.close()


def test_a_stopped_server_refuses_what_is_half_sent_without_a_traceback(
    shelf: Shelf, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(shelf) as server:
        monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
        server.server.config.timeout_graceful_shutdown = 0
        client = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=60)
        client.putrequest("POST", "/v1/chat/completions")
        for name, value in (("Content-Type", "application/json"), ("Content-Length", "9")):
            client.putheader(name, value)
        client.endheaders(b"{")
        end = time.monotonic() + 30
        while not server.server.server_state.tasks:
            assert time.monotonic() < end
            time.sleep(0.01)
    answer = client.getresponse()
    assert (answer.status, b"the server is stopping" in answer.read()) == (503, True)
    client.close()
    assert "Traceback" not in caplog.text
