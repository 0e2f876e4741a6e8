"""`d2l mcp` as its clients meet it: mcp's own client, a process and its pipes, and its errors."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, TextContent

from d2l.answer.cite import Answer
from d2l.answer.events import Ending
from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.datasets.silence import NOT_FOUND
from d2l.errors import BaseModelError
from d2l.serve.engine import ChatOrder
from d2l.serve.library import Library
from d2l.serve.mcp import McpServer
from tests.command import Command
from tests.processes import make_environment
from tests.serve.test_parts import MANUALS, QUESTIONS, make_manuals
from tests.serving import Shelf

pytestmark = pytest.mark.usefixtures("one_thread")
WAITING = "waiting for a client on stdin: boat, llama, mill\n"
HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return make_manuals(tmp_path_factory.mktemp("shelf"))


def list_words(shelf: Shelf) -> list[str]:
    words = ("-m", "d2l", "mcp", shelf.folder, "--base", shelf.base, "--device", "cpu", "--offline")
    return list(map(str, words))


def show(answer: Answer) -> dict[str, Any]:
    document = answer.citations[0].part.document if answer.citations else None
    names = ("place", "passage", "supported", "finish")
    own = {name: getattr(answer, name) for name in names}
    return {"answer": str(answer), "document": document, **own}


def read_error(result: CallToolResult) -> str:
    assert result.is_error
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


# ---- a process ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_client_lists_the_tools_and_calls_each(shelf: Shelf, tmp_path: Path) -> None:
    environment = make_environment()
    server = StdioServerParameters(command=sys.executable, args=list_words(shelf), env=environment)
    results: dict[str, CallToolResult] = {}

    async def use() -> None:
        with (tmp_path / "errors").open("w") as errors:
            transport = stdio_client(server, errlog=errors)
            async with Client(transport, mode="legacy") as client:
                tools = (await client.list_tools()).tools
                assert [tool.name for tool in tools] == ["ask", "find", "outline"]
                assert all("\n\nAdapters: boat, llama, mill" in str(t.description) for t in tools)

                async def call(key: str, tool: str, **arguments: object) -> None:
                    results[key] = await client.call_tool(tool, arguments)

                await call("find", "find", words="lantern", adapter="mill")
                await call("outline", "outline", adapter="mill")
                for name in ("mill", "boat"):
                    await call(name, "ask", question=QUESTIONS[name][0], adapter=name)
                await call("refused", "ask", question="Zwölf Boxkämpfer", adapter="boat.lora")
                await call("unknown", "ask", question="Where?", adapter="mil")
                await call("unnamed", "find", words="lantern")

    asyncio.run(use())
    place = {"document": "mill.pdf", "place": "p. 2", "text": MANUALS["mill"][1]}
    assert results["find"].structured_content == {"places": [place]}
    assert results["outline"].structured_content == {"result": "mill.pdf, p. 1\nmill.pdf, p. 2"}
    for name in ("mill", "boat"):
        folder = shelf.folder / f"{name}.lora"
        adapted = AdaptedModel.load(folder, AskOptions(str(shelf.base), "cpu", offline=True))
        expected = adapted.ask(QUESTIONS[name][0])
        assert results[name].structured_content == show(expected)
        assert expected.passage == MANUALS[name][0]
    assert results["refused"].structured_content == show(Answer(NOT_FOUND))
    names = ": name one of boat, llama, mill"
    assert read_error(results["unknown"]) == f"there is no adapter 'mil'{names}"
    assert read_error(results["unnamed"]) == f"there is no adapter None{names}"
    assert (tmp_path / "errors").read_text() == WAITING


def end_input(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def stop_reading(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.close()
    send(process, 3, "tools/list")
    end_input(process)


def send(process: subprocess.Popen[str], number: int, method: str, **params: object) -> None:
    assert process.stdin is not None
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals end processes")
@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (end_input, 0, ""),
        (stop_reading, 0, ""),
        (interrupt, 130, "stopped; no question is answered any more\n"),
    ],
)
def test_stdout_holds_the_protocol_alone_and_no_end_leaves_a_traceback(
    end: Callable[[subprocess.Popen[str]], None], code: int, said: str, shelf: Shelf
) -> None:
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs ignore it
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *list_words(shelf)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=make_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        send(process, 1, "initialize", **HELLO)
        assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "d2l"
        arguments = {"question": QUESTIONS["mill"][1], "adapter": "mill"}
        send(process, 2, "tools/call", name="ask", arguments=arguments)
        reply = json.loads(process.stdout.readline())
        assert (reply["id"], reply["result"]["structuredContent"]["place"]) == (2, "p. 2")
        end(process)
        assert process.stderr.read() == WAITING + said
        assert process.stdout.closed or process.stdout.read() == ""
        assert process.wait(60) == code


def test_without_its_library_the_way_to_get_it_is_said(
    command: Command, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "d2l.serve.mcp")
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver.exceptions", None)
    done = command("mcp", shelf.folder)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: d2l mcp: import of mcp.server.mcpserver.exceptions halted")
    assert done.err.endswith("\nhint: pip install 'd2l[mcp]'\n")


@pytest.mark.slow
def test_a_start_imports_no_torch_and_refuses_what_is_no_adapter(
    command: Command, shelf: Shelf, tmp_path: Path
) -> None:
    program = (
        f"import sys; sys.argv = ['d2l', 'mcp', {str(shelf.folder)!r}]\n"
        "import d2l.commands.main as main\n"
        "main.leave = lambda code: print(code, sorted({'torch', 'transformers'} & {*sys.modules}),"
        " file=sys.stderr)\n"
        "from d2l.commands.entry import d2l\n"
        "d2l()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=make_environment(),
        timeout=300,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", f"{WAITING}0 []\n")
    refused = command("mcp", shelf.folder, tmp_path)
    assert refused.code == 1
    assert f"{tmp_path}: no adapter here" in refused.err


# ---- in this process ----------------------------------------------------------------------------


class Stub:
    """Engine of one function; the first `n_failures` that are made fail."""

    def __init__(self, answer: Callable[..., Answer], n_failures: int = 0) -> None:
        self._answer, self._n_failures = answer, n_failures

    def __call__(self, *_: object, **__: object) -> "Stub":
        self._n_failures -= 1
        if self._n_failures >= 0:
            raise BaseModelError("the base is not here", hint="fetch it")
        return self

    def answer(self, order: ChatOrder, _: object, is_due: Callable[[], bool]) -> Ending:
        return Ending("stop", 1, self._answer(order, is_due))


@pytest.fixture
def server(shelf: Shelf, tmp_path: Path) -> McpServer:
    """A server of one adapter, a copy."""
    folder = shutil.copytree(shelf.folder / "mill.lora", tmp_path / "mill.lora")
    return McpServer(Library(folder, remark=print), shelf.asking)


def call(server: McpServer, tool: str, **arguments: object) -> CallToolResult:
    async def use() -> CallToolResult:
        async with Client(server) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(use())


def test_the_name_of_a_single_adapter_is_not_needed(server: McpServer) -> None:
    outline = call(server, "outline").structured_content
    assert outline == call(server, "outline", adapter="mill").structured_content
    found = call(server, "find", words="hopper or lantern", n=1).structured_content
    assert found is not None
    assert len(found["places"]) == 1
    assert call(server, "find", words="xylophone").structured_content == {"places": []}
    assert "greater than or equal to 1" in read_error(call(server, "find", words="hopper", n=0))


def test_an_adapter_without_text_has_nothing_to_find(server: McpServer, tmp_path: Path) -> None:
    (tmp_path / "mill.lora" / "parts.json").unlink()
    for tool, arguments in (("find", {"words": "hopper"}), ("outline", {})):
        told = read_error(call(server, tool, **arguments))
        assert told == "mill: keeps no text (compile it without --no-text)"


def test_an_unexpected_error_tells_its_kind_alone(
    server: McpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Answer:
        raise ValueError("a secret")

    monkeypatch.setattr("d2l.serve.engine.Engine", Stub(fail))
    assert read_error(call(server, "ask", question="?")) == "the server failed (ValueError)"


def test_a_base_that_could_not_be_loaded_is_tried_again(
    server: McpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = Stub(lambda order, _: Answer(f"{order.entry.name} {order.max_tokens}"), n_failures=1)
    monkeypatch.setattr("d2l.serve.engine.Engine", stub)
    assert read_error(call(server, "ask", question="?")) == "the base is not here (fetch it)"
    answer = Answer("mill 0")
    assert call(server, "ask", question="?").structured_content == show(answer)


def test_an_answer_ends_when_its_client_gives_up(
    server: McpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def wait(_: object, is_due: Callable[[], bool]) -> Answer:
            while not is_due():
                pass
            loop.call_soon_threadsafe(ended.set)
            return Answer("late")

        monkeypatch.setattr("d2l.serve.engine.Engine", Stub(wait))
        async with Client(server) as client:
            with pytest.raises(MCPError, match="imed out"):
                await client.call_tool("ask", {"question": "?"}, read_timeout_seconds=0.2)
            await asyncio.wait_for(ended.wait(), 30)

    asyncio.run(use())
