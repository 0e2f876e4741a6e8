"""The live check on a tiny base: every state at a real server, and odd endpoints."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from d2l.answer.options import AskOptions
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.errors import OptionError, ProbeError
from d2l.evaluation.endpoint import Endpoint
from d2l.evaluation.live import RIGHT, answer_in_state, check_live
from d2l.serve.client import ServerError
from tests import tiny
from tests.command import Command
from tests.compiled import compile_tiny, write_prompt
from tests.loaded import change_weights
from tests.serve.test_upstream import drip, engine
from tests.serving import BASE, Shelf, running

__all__ = ["engine"]
pytestmark = pytest.mark.usefixtures("one_thread")


def check(shelf: Shelf, name: str, url: str, model: str | None = None) -> dict[str, Any]:
    adapter = shelf.folder / f"{name}.lora"
    return check_live(adapter, Endpoint(url, model or name), shelf.asking)


def test_replies_here_are_those_of_the_adapter_and_of_the_base(shelf: Shelf) -> None:
    adapted = shelf.load("pump")
    questions = ["Where is the pump?", "Who has the key?"]
    for question, reply in zip(questions, answer_in_state(adapted, questions, RIGHT), strict=True):
        assert adapted.ask(question).startswith(reply.answer)
    alone = answer_in_state(adapted, questions, "left out, and so is its template")
    for question, reply in zip(questions, alone, strict=True):
        ids = torch.tensor([tiny.encode(write_prompt(question))])
        row = tiny.make_causal("llama")(input_ids=ids).logits[0, -1].log_softmax(-1)
        assert reply.top is not None
        values = [value for _, value in reply.top]
        assert values == pytest.approx(row.topk(20).values.tolist(), abs=1e-3)


# ---- every state, at a real server --------------------------------------------------------------


def change(adapter: Path, **scales: float) -> None:
    """Make an adapter so many times as strong, as a server does that has its scale wrong."""
    factor = scales["factor"]
    change_weights(adapter, lambda name, t: t * factor if ".lora_B." in name else t.clone())


def lose_template(adapter: Path) -> None:
    """As a server is that was started with the base's own template."""
    (adapter / "chat_template.jinja").unlink()
    record = json.loads((adapter / "d2l.json").read_text())
    del record["prompt"]["opening"]  # or the server would refuse
    (adapter / "d2l.json").write_text(json.dumps(record))


def keep(adapter: Path) -> None:
    del adapter


CASES: dict[str, Callable[[Path], None]] = {
    "in effect": keep,
    "left out": lambda adapter: change(adapter, factor=0.0),
    "at half its strength": lambda adapter: change(adapter, factor=0.5),
    "at twice its strength": lambda adapter: change(adapter, factor=2.0),
    "in effect, but without its template": lose_template,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["pump", "harbor"])
def test_every_state_is_recognized(name: str, case: str, shelf: Shelf, tmp_path: Path) -> None:
    if (name, case) == ("harbor", "in effect, but without its template"):
        pytest.skip("it has none of its own")
    adapter = shutil.copytree(shelf.folder / f"{name}.lora", tmp_path / f"{name}.lora")
    CASES[case](adapter)
    with running(shelf, tmp_path) as server:
        report = check(shelf, name, server.address)
    assert report["by"] == "token probabilities"
    assert report["states"] == [case], report["distances"]
    assert report["passes"] == (case == RIGHT)
    assert report["distances"][case] < 0.01
    assert bool(report["fix"]) == (case != RIGHT)


def test_the_endpoint_is_asked_sentences_of_the_document(tmp_path: Path) -> None:
    path = tmp_path / "handbook.txt"
    path.write_text(tiny.DOCUMENT, "utf-8")
    done = compile_tiny(tmp_path, "seats", read_document(Source(str(path), path)))
    asked = []

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body["messages"][0]["content"])
        return 200, tell("x")

    with fake(answer) as url:
        asking = AskOptions(str(done.base), "cpu", offline=True)
        check_live(done.adapter, Endpoint(url, "handbook"), asking)
    assert len(asked) == 5
    assert asked[0] == "How does this go on? Open the copper valve before"


def test_another_adapter_and_the_bases_own_name_are_told_apart(shelf: Shelf) -> None:
    with running(shelf) as server:
        left_out = check(shelf, "pump", f"{server.address}/v1/", BASE)
        other = check(shelf, "pump", server.address, "copper")
    assert left_out["states"] == ["left out, and so is its template"]
    assert not other["passes"]


# ---- endpoints that tell less, or something else ------------------------------------------------


@contextmanager
def fake(answer: Callable[[dict[str, Any]], tuple[Any, ...]]) -> Iterator[str]:
    """The address of a server that answers every request with a status and JSON, or text, and
    with the address that it redirects to, if there is one."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(*answer(body))

        def do_GET(self) -> None:
            self._send(*answer({}))

        def _send(self, status: int, value: Any, location: str | None = None) -> None:
            text = value if isinstance(value, str) else json.dumps(value)
            self.send_response(status)
            if location is not None:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ExitStack() as stack:
        server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        stack.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"


def tell(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "logprobs": None}]}


@pytest.mark.parametrize("state", ["in effect", "left out", "at twice its strength"])
@pytest.mark.parametrize("refuses", [False, True])
def test_answers_alone_tell_the_states_apart(state: str, refuses: bool, shelf: Shelf) -> None:
    adapted = shelf.load("pump")

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if refuses and "logprobs" in body:
            return 400, {"error": {"message": "logprobs are not told"}}
        (reply,) = answer_in_state(adapted, [body["messages"][0]["content"]], state)
        return 200, tell(reply.answer)

    with fake(answer) as url:
        report = check(shelf, "pump", url)
    assert (report["by"], report["states"]) == ("answers", [state])


def test_answers_that_fit_nothing_are_said_to(shelf: Shelf) -> None:
    with fake(lambda _: (200, tell("§§§"))) as url:
        report = check(shelf, "pump", url)
    assert (report["states"], report["passes"]) == ([], False)
    assert "fit neither the adapter nor its base" in report["message"]


def test_an_adapter_that_changes_nothing_is_not_in_effect(shelf: Shelf, tmp_path: Path) -> None:
    adapter = shutil.copytree(shelf.folder / "harbor.lora", tmp_path / "harbor.lora")
    change(adapter, factor=0.0)
    with running(shelf) as server:
        report = check_live(adapter, Endpoint(server.address, BASE), shelf.asking)
    assert RIGHT in report["states"]
    assert not report["passes"]
    assert report["message"] == "the adapter changes too little to tell whether it is in effect"


def test_an_opening_the_base_has_itself_leaves_nothing_open(shelf: Shelf, tmp_path: Path) -> None:
    """As of few seats: with its template and without it the prompts are the same."""
    base = shutil.copytree(shelf.base, tmp_path / "base")
    shutil.copy(shelf.folder / "pump.lora" / "chat_template.jinja", base)
    with running(shelf) as server:
        asking = replace(shelf.asking, base=str(base))
        report = check_live(shelf.folder / "pump.lora", Endpoint(server.address, "pump"), asking)
    assert report["states"] == [RIGHT]
    assert not [state for state in report["distances"] if "template" in state]


@pytest.mark.parametrize(
    ("status", "value", "message", "hint"),
    [
        (401, "no", "answers with status 401 (no)", "D2L_SERVE_TOKEN"),
        (404, {"data": [{"id": "a"}, {"id": "b"}]}, "answers with status 404", "--model"),
        (500, "broken", "answers with status 500", "log"),
        (200, "<html>", "does not answer in OpenAI's form", "OpenAI-compatible"),
        (200, {"choices": []}, "does not answer in OpenAI's form", "OpenAI-compatible"),
    ],
)
def test_endpoints_that_do_not_answer_are_one_clear_error(
    status: int, value: Any, message: str, hint: str
) -> None:
    with fake(lambda _: (status, value)) as url, pytest.raises(ProbeError) as caught:
        Endpoint(url, "x").ask("?", 3)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ServerError, match="no server is there"):
        Endpoint("http://127.0.0.1:1", "x").ask("?", 3)
    with pytest.raises(OptionError, match="is no address"):
        Endpoint("file:///etc/passwd", "x").ask("?", 3)


def test_a_redirect_and_a_proxy_get_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        seen.append(body)
        return 200, tell("x")

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with fake(answer) as other, fake(lambda _: (302, "moved", other)) as url:
        for proxy in ("", other):
            monkeypatch.setenv("http_proxy", proxy)
            with pytest.raises(ProbeError, match=r"answers with status 302 \(moved\)"):
                Endpoint(url, "x", "secret").ask("?", 3)
    assert seen == []


def test_time_and_size_of_a_reply_are_bounded(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d2l.evaluation.endpoint._SECONDS", 0.3)
    engine.script = drip(b"HTTP/1.0 200 OK\r\n\r\n")
    with pytest.raises(ServerError, match="did not answer in 0 s"):
        Endpoint(engine.address, "x").ask("?", 3)
    monkeypatch.setattr("d2l.serve.client.MOST_BYTES", 50)
    with fake(lambda _: (200, tell("x" * 100))) as url, pytest.raises(ProbeError, match="form"):
        Endpoint(url, "x").ask("?", 3)


# ---- the command --------------------------------------------------------------------------------


def test_the_command_says_what_it_found_and_exits_by_it(command: Command, shelf: Shelf) -> None:
    adapter = shelf.folder / "pump.lora"
    with running(shelf) as server:
        base = ("--base", shelf.base, "--device", "cpu", "--offline")
        words = ("check", adapter, "--live", server.address, *base)
        done = command(*words)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(
            f"pump at {server.address}: the adapter is in effect\n"
            "  5 questions, by token probabilities; distances: in effect 0.00, "
        )
        done = command(*words, "--model", BASE)
        assert done.code == 1
        assert done.out.splitlines()[1].startswith("  do: the server did not load it")
        values = json.loads(command(*words, "--json").out)
        assert (values["passes"], values["live"]["states"]) == (True, [RIGHT])
    done = command("check", adapter, "--live", "http://127.0.0.1:1", "--runtime", "vllm")
    assert done.err.startswith("error: --live takes no --runtime")
    done = command("check", adapter, "--model", "x")
    assert done.err.startswith("error: --model needs --live")


def test_the_token_comes_from_the_environment(
    command: Command, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2L_SERVE_TOKEN", "sesame")
    with running(shelf, token="sesame") as server:
        words = ("check", shelf.folder / "pump.lora", "--live", server.address)
        assert command(*words, "--base", shelf.base, "--offline").code == 0
        monkeypatch.delenv("D2L_SERVE_TOKEN")
        done = command(*words, "--base", shelf.base, "--offline")
        assert (done.code, "set its token in D2L_SERVE_TOKEN" in done.err) == (1, True)
