"""`d2l ask --server`: the answers of `d2l ask`, from a server that runs already."""

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from d2l.serve.client import Client, ServerError
from tests.command import Command, Outcome
from tests.compiled import Compiled, compile_tiny
from tests.processes import run_python
from tests.serve.test_upstream import Engine, drip, engine
from tests.serving import Running, Shelf, running

__all__ = ["engine"]
pytestmark = pytest.mark.usefixtures("one_thread")
QUESTIONS = ("How often is the filter rinsed?", "Where is the pump?")
TOKENS = ("--max-tokens", 6)
Ask = Callable[..., Outcome]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """An adapter with parts, `tiny.lora`, alone in its folder."""
    root = tmp_path_factory.mktemp("server")
    return compile_tiny(root, "seats", parts=True)


@pytest.fixture(scope="module")
def server(done: Compiled) -> Iterator[Running]:
    with running(Shelf(done.root, done.base), done.adapter) as found:
        yield found


@pytest.fixture
def ask(command: Command, server: Running) -> Ask:
    return lambda *words: command("ask", *words, *TOKENS, "--server", server.address)


@pytest.fixture
def ask_here(command: Command, done: Compiled) -> Ask:
    fixed = (*TOKENS, "--base", done.base, "--device", "cpu", "--offline")
    return lambda *words: command("ask", done.adapter, *words, *fixed)


# ---- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [(), ("--page", "p. 2"), ("--parts", 1), ("--whole",), ("--compare",)], ids=str
)
def test_a_server_answers_what_ask_answers(words: tuple[Any, ...], ask: Ask, ask_here: Ask) -> None:
    served, local = ask("tiny", QUESTIONS[0], *words), ask_here(QUESTIONS[0], *words)
    assert served.code == 0
    assert [line.split() for line in served.out.splitlines()][:2] == [
        line.split() for line in local.out.splitlines()
    ]  # the server finds the document, whose text stands in the third line
    assert served.err == local.err


@pytest.mark.parametrize("option", ["--json", "--jsonl"])
def test_json_of_a_server_is_that_of_ask(
    option: str, ask: Ask, ask_here: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for run, words in ((ask, ("tiny.lora",)), (ask_here, ())):
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(QUESTIONS)))
        lines = [json.loads(line) for line in run(*words, option).out.splitlines()]
        rows.append(lines[0]["answers"] if option == "--json" else lines)
    assert rows[0] == rows[1]
    assert {"question", "adapter", "part", "place", "parts"} <= set(rows[0][1])


def test_an_adapters_path_and_the_variable_name_it_too(
    command: Command, server: Running, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2L_SERVER", f"{server.address}/v1/")
    outcome = command("ask", "not/here/tiny.lora", QUESTIONS[0], *TOKENS)
    assert outcome == ask("tiny", QUESTIONS[0])
    assert outcome.code == 0


def test_questions_on_a_terminal_are_a_conversation(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter([QUESTIONS[0], "And the tower?", "/compare", "How often? " * 300, "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    monkeypatch.setattr("d2l.commands.ask._is_terminal", lambda: True)
    outcome = ask("tiny")
    assert (outcome.code, outcome.err.count("(p. ")) == (0, 3)
    assert "\nbase alone " in outcome.out
    assert "/new forgets the turns before" in outcome.err


def test_no_torch_is_imported(server: Running) -> None:
    program = (
        "import sys\nfrom d2l.commands.main import main\n"
        f"sys.argv = ['d2l', 'ask', 'tiny', 'Where?', '--server', {server.address!r}]\n"
        "try:\n    main()\nfinally:\n"
        "    print(sorted({'torch', 'transformers', 'starlette', 'd2l.errors'} & set(sys.modules)))"
    )
    found = run_python("-c", program, folder=Path())
    assert (found.returncode, found.stdout.splitlines()[-1]) == (0, "['d2l.errors']"), found.stderr


# ---- failures -----------------------------------------------------------------------------------


def fail(command: Command, address: str, *words: object) -> list[str]:
    """Error and hint of a question to a server."""
    outcome = command("ask", "tiny", QUESTIONS[0], "--server", address, *words)
    assert (outcome.code, outcome.out) == (1, "")
    error, hint = outcome.err.splitlines()
    address = address.removesuffix("/v1")
    return [error.removeprefix(f"error: {address}: "), hint.removeprefix("hint: ")]


WRONG = ("http://x?y=1", "http://x#y", "http://user:password@x", "http://x /", "file:///x")


def test_no_server_is_there(command: Command) -> None:
    assert fail(command, "http://127.0.0.1:9") == [
        "no server is there ([Errno 111] Connection refused)",
        "start it: d2l serve adapters/ --port 9",
    ]
    for address in ("127.0.0.1:9", "http://", "http://x:y", "ftp://x", *WRONG):
        assert fail(command, address)[0] == "is no address of a server"


@pytest.mark.parametrize(
    "models", [None, {"data": [{"id": "m", "owned_by": "vllm", "parent": None}]}, {"data": 1}]
)
def test_another_program_is_there(models: Any, command: Command, engine: Any) -> None:
    engine.pages = {} if models is None else {"/v1/models": models}
    assert fail(command, engine.address)[0] == "no d2l serve answers there"


def test_an_adapter_that_is_not_there(ask: Ask, server: Running) -> None:
    assert ask("other.lora", "Where?").err == (
        f"error: {server.address}: has no adapter other; it has tiny\n"
        "hint: name one of these, or put the folder beside theirs\n"
    )


def test_a_token_is_missing(command: Command, done: Compiled) -> None:
    with running(Shelf(done.root, done.base), done.adapter, token="secret") as server:
        assert fail(command, server.address) == [
            "a token is needed, and this is not it",
            "set the server's token in D2L_SERVE_TOKEN",
        ]


def answer_with(status: int, body: bytes) -> Callable[[Engine], None]:
    return lambda handler: handler._write(status, body)


BUSY = b'{"error": {"message": "32 requests wait already", "code": "overloaded"}}'
PIECE = b'data: {"choices": [{"delta": {"content": ""}}]}\n\n'
PART = {"part": 0, "document": "a", "place": "p. 1", "score": 1.0}
NO_D2L = "no d2l serve answers there"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (answer_with(503, BUSY), "32 requests wait already"),
        (answer_with(503, b"Service Unavailable"), "is busy"),
        (answer_with(200, PIECE), "broke off"),
        (answer_with(200, PIECE + b"data: " + BUSY + b"\n\n"), "32 requests wait already"),
        (answer_with(200, b"data: {\n\n"), NO_D2L),
        (answer_with(200, b"data: " + b"[" * 1_500 + b"\n\n"), NO_D2L),
        (answer_with(200, b"data: " + b" " * 2_000 + PIECE), "broke off"),
        (answer_with(999, b"?"), NO_D2L),
        (lambda _: time.sleep(0.5), "did not answer in 0 s"),
        (drip(b"HTTP/1.0 200 OK\r\n\r\n"), "did not answer in 0 s"),
        (drip(b"HTTP/1.1 200 OK\r\nX:"), "did not answer in 0 s"),
    ],
)
def test_a_server_is_busy_slow_or_broken(
    script: Callable[[Engine], None],
    error: str,
    command: Command,
    engine: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("d2l.serve.client._ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("d2l.serve.client.MOST_BYTES", 2_000)
    engine.pages, engine.script = {"/v1/models": {"data": MODELS}}, script
    assert fail(command, engine.address)[0] == error
    assert fail(command, engine.address, "--compare")[0] == "does not serve the base"


OTHERS: list[Any] = [
    *(None, 5, [], "a", {"choices": 5}, {"d2l": None}, {"d2l": 5}, {"d2l": {"parts": [5]}}),
    *({"choices": [choice]} for choice in (None, 5, "a", {"delta": 5})),
    *({"choices": [{"delta": {"content": text}}]} for text in (5, ["a"], {"a": 1})),
    *({"d2l": {"parts": [{name: PART[name] for name in PART if name != key}]}} for key in PART),
    *({"document": value} for value in (None, 5, {"tokens_left_out": "many"})),
    *({"error": value} for value in (None, 5, {}, {"message": "a", "code": [1]})),
]


def test_events_of_another_form_are_refused_in_one_line(engine: Any) -> None:
    engine.pages = {"/v1/models": {"data": MODELS}}
    client = Client(engine.address)
    for event in OTHERS:
        engine.script = answer_with(
            200, b"data: %s\n\ndata: [DONE]\n\n" % json.dumps(event).encode()
        )
        with pytest.raises(ServerError, match="no d2l serve answers there"):
            client.answer("tiny", [], print, {})


MODELS = [{"id": "tiny", "owned_by": "d2l", "parent": "base"}]
EVENTS = b"""\
: ping\r
event: message\r
id: 1\r
data:{"choices": [\r
data: {"delta": {"content": "On\xe2\x80\xa8Monday."}}]}\r
\r
data:[DONE]\r
\r
"""


def test_events_are_read_as_the_standard_says(command: Command, engine: Any) -> None:
    """Comments, other fields, no blank after a colon, several lines, and a line separator."""
    engine.pages, engine.script = {"/v1/models": {"data": MODELS}}, answer_with(200, EVENTS)
    outcome = command("ask", "tiny", "When?", "--server", engine.address)
    assert outcome.out == "On\\u2028Monday.\n"  # as the console writes the separator


def test_values_of_another_type_are_shown_as_they_are(command: Command, engine: Any) -> None:
    parts = [PART | {"document": []}, PART | {"place": 5}]
    body = b"data: %s\n\ndata: [DONE]\n\n" % json.dumps({"d2l": {"parts": parts}}).encode()
    engine.pages, engine.script = {"/v1/models": {"data": MODELS}}, answer_with(200, body)
    assert command("ask", "tiny", "When?", "--server", engine.address).code == 0


def test_half_an_answer_and_the_error_stand_on_lines_of_their_own(
    command: Command, engine: Any
) -> None:
    body = PIECE.replace(b'""', b'"half"')
    engine.pages, engine.script = {"/v1/models": {"data": MODELS}}, answer_with(200, body)
    outcome = command("ask", "tiny", "When?", "--server", engine.address)
    assert (outcome.code, outcome.out) == (1, "half\n")
    assert outcome.err.startswith("error: ")


def test_the_token_goes_to_the_named_host_alone(
    command: Command, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a redirect nor a proxy of the environment gets it."""
    seen: list[str | None] = []

    class Other(Engine):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self._write(404, b"{}")

        do_POST = do_GET

    def redirect(handler: Engine) -> None:
        handler.send_response(302)
        handler.send_header("Location", elsewhere)
        handler.end_headers()

    other = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    elsewhere = f"http://127.0.0.1:{other.server_port}"
    monkeypatch.setenv("D2L_SERVE_TOKEN", "secret")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    engine.pages, engine.script = {"/v1/models": {"data": MODELS}}, redirect
    for proxy in ("", elsewhere):
        monkeypatch.setenv("http_proxy", proxy)
        assert fail(command, engine.address)[0] == NO_D2L
        assert engine.asked[-1][1]["Authorization"] == "Bearer secret"
        assert seen == []
    other.shutdown()
    other.server_close()


@pytest.mark.parametrize(
    "words",
    [("--base", "b"), ("--device", "cpu"), ("--document", "d")],
    ids=lambda words: words[0],
)
def test_what_only_this_process_can_do_is_refused(words: tuple[str, str], ask: Ask) -> None:
    assert ask("tiny", *words).err == (
        f"error: a server does not take {words[0]}\n"
        "hint: leave it out, or --server and D2L_SERVER\n"
    )
    assert ask("tiny", "?", "--whole", "--parts", 2).err.startswith("error: --whole asks no part\n")
