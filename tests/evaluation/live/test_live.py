"""The live check on a tiny base: expectations, every state at a real server, and odd endpoints."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2l.errors import AdapterError, OptionError, ProbeError
from d2l.evaluation.live.endpoint import Endpoint
from d2l.evaluation.live.expectations import (
    FILE,
    Expectations,
    format_expectations,
    read_expectations,
)
from d2l.evaluation.live.make import make_expectations
from d2l.evaluation.live.states import RIGHT, STATES
from d2l.evaluation.live.verdict import check_live
from d2l.evaluation.originals import Stretch
from tests import tiny
from tests.command import Command
from tests.compiled import Compiled, compile_tiny, make_document, write_prompt
from tests.serving import BASE, Shelf, make_shelf, running

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return make_shelf(tmp_path_factory.mktemp("shelf"))


def expect(shelf: Shelf, name: str) -> Expectations:
    document = make_document()
    stretches = [Stretch(document, None, 0, len(document.text))]
    return make_expectations(shelf.load(name), stretches, shelf.folder / f"{name}.lora")


@pytest.fixture(scope="module")
def expected(shelf: Shelf) -> dict[str, Expectations]:
    return {name: expect(shelf, name) for name in ("pump", "harbor")}


# ---- what is expected ---------------------------------------------------------------------------


def test_questions_are_sentences_of_the_document_to_go_on_with(
    expected: dict[str, Expectations], shelf: Shelf
) -> None:
    questions = expected["pump"].questions
    assert questions[0].text == "How does this go on? Open the copper valve before"
    assert [set(question.expected) for question in questions] == [set(STATES)] * 5
    adapted = shelf.load("pump")
    for question in questions:
        answer = question.expected[RIGHT].answer
        assert adapted.ask(question.text).startswith(answer)
        ids = torch.tensor([tiny.encode(write_prompt(question.text))])
        row = tiny.make_causal("llama")(input_ids=ids).logits[0, -1].log_softmax(-1)
        alone = [value for _, value in question.expected["left out, other template"].top]
        assert alone == pytest.approx(row.topk(20).values.tolist(), abs=1e-3)


def test_the_file_is_written_whole_read_back_and_tied_to_the_weights(
    expected: dict[str, Expectations], shelf: Shelf, tmp_path: Path
) -> None:
    adapter = shutil.copytree(shelf.folder / "pump.lora", tmp_path / "pump.lora")
    assert read_expectations(adapter) is None
    path = adapter / FILE
    path.write_text(format_expectations(expected["pump"]), "utf-8")
    assert path == adapter / FILE
    assert read_expectations(adapter) == expected["pump"]
    (adapter / FILE).write_text("{")
    with pytest.raises(AdapterError, match="is damaged"):
        read_expectations(adapter)
    path.write_text(format_expectations(expected["harbor"]), "utf-8")
    with pytest.raises(AdapterError, match="was made for other weights"):
        read_expectations(adapter)


# ---- every state, at a real server --------------------------------------------------------------


def change(adapter: Path, **scales: float) -> None:
    """Make an adapter so many times as strong, as a server does that has its scale wrong."""
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    factor = scales["factor"]
    changed = {n: t * factor if ".lora_B." in n else t.clone() for n, t in tensors.items()}
    save_file(changed, path, {"format": "pt"})


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
    "half strength": lambda adapter: change(adapter, factor=0.5),
    "double strength": lambda adapter: change(adapter, factor=2.0),
    "other template": lose_template,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["pump", "harbor"])
def test_every_state_is_recognized_at_a_server(
    name: str, case: str, shelf: Shelf, expected: dict[str, Expectations], tmp_path: Path
) -> None:
    if (name, case) == ("harbor", "other template"):
        pytest.skip("it has none of its own")
    adapter = shutil.copytree(shelf.folder / f"{name}.lora", tmp_path / f"{name}.lora")
    CASES[case](adapter)
    with running(shelf, tmp_path) as server:
        report = check_live(Endpoint(server.address, name), expected[name])
    assert report.by == "token probabilities"
    assert report.found == (case,), report.distances
    assert report.passes == (case == RIGHT)
    assert report.distances[case] < 0.01
    assert bool(report.advice) == (case != RIGHT)


def test_the_bases_own_name_is_the_adapter_left_out(
    shelf: Shelf, expected: dict[str, Expectations]
) -> None:
    with running(shelf) as server:
        report = check_live(Endpoint(f"{server.address}/v1/", BASE), expected["pump"])
        other = check_live(Endpoint(server.address, "copper"), expected["pump"])
    assert report.found == ("left out, other template",)
    assert not other.passes


# ---- endpoints that tell less, or something else ------------------------------------------------


@contextmanager
def fake(answer: Callable[[dict[str, Any]], tuple[int, Any]]) -> Iterator[str]:
    """The address of a server that answers every request with a status and JSON, or text."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(*answer(body))

        def do_GET(self) -> None:
            self._send(*answer({}))

        def _send(self, status: int, value: Any) -> None:
            text = value if isinstance(value, str) else json.dumps(value)
            self.send_response(status)
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


@pytest.mark.parametrize("state", ["in effect", "left out", "other template", "double strength"])
@pytest.mark.parametrize("refuses", [False, True])
def test_answers_alone_tell_the_states_apart(
    state: str, refuses: bool, expected: dict[str, Expectations]
) -> None:
    answers = {q.text: q.expected[state].answer for q in expected["pump"].questions}

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if refuses and "logprobs" in body:
            return 400, {"error": {"message": "logprobs are not told"}}
        return 200, tell(answers[body["messages"][0]["content"]])

    with fake(answer) as url:
        report = check_live(Endpoint(url, "x"), expected["pump"])
    assert (report.by, report.found) == ("answers", (state,))


def test_answers_that_fit_nothing_are_said_to(expected: dict[str, Expectations]) -> None:
    with fake(lambda _: (200, tell("§§§"))) as url:
        report = check_live(Endpoint(url, "x"), expected["pump"])
    assert report.found == ()
    assert not report.passes
    assert "fit neither the adapter nor its base" in report.said


def test_an_adapter_that_changes_nothing_is_not_said_to_be_in_effect(shelf: Shelf) -> None:
    expectations = expect(shelf, "harbor")
    same = [
        q.model_copy(update={"expected": dict.fromkeys(STATES, q.expected["left out"])})
        for q in expectations.questions
    ]
    flat = expectations.model_copy(update={"questions": tuple(same)})
    with running(shelf) as server:
        report = check_live(Endpoint(server.address, BASE), flat)
    assert not report.passes
    assert report.said == "the adapter changes too little to tell whether it is in effect"


@pytest.mark.parametrize(
    ("status", "value", "message", "hint"),
    [
        (401, {"error": {"message": "no"}}, "answers with status 401 (no)", "--token"),
        (404, {"data": [{"id": "a"}, {"id": "b"}]}, "answers with status 404", "--model"),
        (500, "broken", "answers with status 500", "log"),
        (200, "<html>", "does not answer in JSON", "OpenAI-compatible"),
        (200, {"choices": []}, "not in OpenAI's form", "OpenAI-compatible"),
    ],
)
def test_endpoints_that_do_not_answer_are_one_clear_error(
    status: int, value: Any, message: str, hint: str
) -> None:
    with fake(lambda _: (status, value)) as url, pytest.raises(ProbeError) as caught:
        Endpoint(url, "x").ask("?", 3)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


def test_a_server_that_is_not_there_is_waited_for_and_named() -> None:
    with pytest.raises(ProbeError, match="cannot be reached"):
        Endpoint("http://127.0.0.1:1", "x", wait=0.1).ask("?", 3)
    with pytest.raises(OptionError, match="is no address"):
        Endpoint("file:///etc/passwd", "x")


# ---- the command --------------------------------------------------------------------------------


def test_the_command_says_what_it_found_and_exits_by_it(
    command: Command, shelf: Shelf, tmp_path: Path, expected: dict[str, Expectations]
) -> None:
    adapter = shutil.copytree(shelf.folder / "pump.lora", tmp_path / "pump.lora")
    (adapter / FILE).write_text(format_expectations(expected["pump"]), "utf-8")
    with running(shelf) as server:
        words = ("check", adapter, "--live", server.address)
        done = command(*words)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(
            f"pump at {server.address}: the adapter is in effect, in full strength, in its "
            "template\n  5 questions, by token probabilities; distances: in effect 0.00, "
        )
        done = command(*words, "--model", BASE)
        assert done.code == 1
        assert done.out.splitlines()[1].startswith("  do: the server did not load it")
        values = json.loads(command(*words, "--json").out)
        assert (values["passes"], values["live"]["found"]) == (True, [RIGHT])
        (adapter / FILE).unlink()  # then they are made now, without the document
        base = ("--base", shelf.base, "--device", "cpu", "--offline")
        done = command(*words, *base)
        assert done.code == 0
        assert done.err == "the adapter has no live_check.json, so its questions are made now\n"
    done = command("check", adapter, "--live", "http://127.0.0.1:1", "--runtime", "vllm")
    assert done.err.startswith("error: --runtime and --max-lora-rank mean nothing with --live")
    done = command("check", adapter, "--model", "x")
    assert done.err.startswith("error: --model and --wait mean nothing without --live")


def test_compile_ships_the_questions(
    command: Command, compiled: Callable[[str], Compiled], tmp_path: Path
) -> None:
    done = compiled("seats")
    (tmp_path / "doc.txt").write_text(tiny.DOCUMENT)
    words = ("--checkpoint", done.checkpoint, "--base", done.base, "--device", "cpu", "--offline")
    out = tmp_path / "doc.lora"
    outcome = command("compile", tmp_path / "doc.txt", "-o", out, *words, "--live-check")
    assert outcome.code == 0
    found = read_expectations(out)
    assert found is not None
    assert found.questions[0].text == "How does this go on? Open the copper valve before"
    first = (out / FILE).read_bytes()
    command("compile", tmp_path / "doc.txt", "-o", out, *words, "--live-check", "--force")
    assert (out / FILE).read_bytes() == first
    plain = compile_tiny(tmp_path / "plain", "seats")
    assert not (plain.adapter / FILE).exists()
