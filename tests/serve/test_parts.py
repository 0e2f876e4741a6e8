"""Adapters with parts behind the server: each question chooses, and the reply cites the page."""

import json
import shutil
from pathlib import Path
from typing import Any

import openai
import pytest

from d2l.adapters.info import PARTS
from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.datasets.silence import NOT_FOUND
from d2l.documents.document import Document
from d2l.parts.kept import PartOptions
from d2l.readers.parsing import Section
from tests import tiny
from tests.compiled import compile_tiny
from tests.serving import N_TOKENS, Running, Shelf, chat_body, running, say, send, user

pytestmark = pytest.mark.usefixtures("one_thread")
#: A page each; the manuals say the same of other things.
MANUALS = {
    "mill": ("The hopper is emptied on Monday.", "The lantern hangs in the tower."),
    "boat": ("The rudder is greased on Friday.", "The compass lies under the bench."),
}
KINDS = {"mill": "seats", "boat": "seats", "llama": "llama"}
QUESTIONS = {
    "mill": ("When is the hopper emptied?", "Where does the lantern hang?"),
    "boat": ("When is the rudder greased?", "Where is the compass?"),
}
QUESTIONS["llama"] = QUESTIONS["mill"]


def make_manual(name: str, pages: tuple[str, ...]) -> Document:
    sections = tuple(Section(text, page=n) for n, text in enumerate(pages, 1))
    return Document(f"{name}.pdf", "pdf", sections, "0" * 64, sum(map(len, pages)))


def make_manuals(root: Path) -> Shelf:
    """Compile them with parts."""
    for name, kind in KINDS.items():
        if kind == "seats":
            tiny.write_seats(root / name / "checkpoint", repeats=2, chunk_tokens=64)  # a page each
        manual = make_manual(name, MANUALS.get(name, MANUALS["mill"]))
        done = compile_tiny(root / name, kind, manual, parts=True)
        shutil.copytree(done.adapter, root / "adapters" / f"{name}.lora")
    return Shelf(root / "adapters", done.base)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return make_manuals(tmp_path_factory.mktemp("shelf"))


def ask(
    client: openai.OpenAI, model: str, messages: Any, **more: Any
) -> tuple[str, dict[str, Any] | None]:
    """An answer, and d2l's own field."""
    reply = client.chat.completions.create(
        model=model,
        messages=messages,
        max_tokens=N_TOKENS,
        extra_body={"d2l": more} if more else {},
    )
    return str(reply.choices[0].message.content), (reply.model_extra or {}).get("d2l")


def test_each_question_is_answered_from_its_own_manual_and_page(
    client: openai.OpenAI, shelf: Shelf
) -> None:
    """Taking turns among adapters that share one base in memory, as each does alone."""
    alone = {name: shelf.load(name) for name in KINDS}
    for n in (0, 1, 0):
        for name in KINDS:
            question = QUESTIONS[name][n]
            text, cited = ask(client, name, user(question), parts=1)
            turns = user(question)
            options = alone[name].options.__class__(
                str(shelf.base), "cpu", N_TOKENS, offline=True, parts=PartOptions(1)
            )
            expected = alone[name].answer(turns, options=options)
            assert text == expected.text
            assert cited is not None
            assert cited == {
                **expected.citations[0].to_json(),
                "parts": [one.to_json() for one in expected.citations],
                "passage": expected.passage,
                "supported": expected.supported,
                "finish": expected.finish,
            }
            assert expected.passage
            assert any(expected.passage in page for page in MANUALS.get(name, MANUALS["mill"]))
            assert (cited["document"], cited["part"]) == (f"{name}.pdf", n)


def test_without_a_wish_the_answer_and_its_source_are_those_of_ask(
    client: openai.OpenAI, shelf: Shelf
) -> None:
    turns = user(QUESTIONS["boat"][1])
    expected = shelf.load("boat").answer(turns)
    text, cited = ask(client, "boat", turns)
    assert (text, cited and cited["place"]) == (expected.text, expected.citations[0].part.place)


def test_the_last_chunk_of_a_stream_cites(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="boat", messages=user(QUESTIONS["boat"][1]), max_tokens=N_TOKENS, stream=True
        )
    )
    cited = [chunk.model_extra["d2l"] for chunk in chunks if chunk.model_extra]
    assert len(cited) == 1
    assert chunks[-1].model_extra == {"d2l": cited[0]}
    text, whole = ask(client, "boat", user(QUESTIONS["boat"][1]))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert cited[0] == whole


def test_earlier_turns_count_for_the_choice(client: openai.OpenAI) -> None:
    turns = [*user(QUESTIONS["mill"][1]), {"role": "assistant", "content": "Up there."}]
    _, cited = ask(client, "mill", [*turns, *user("And why?")], parts=1)
    assert cited is not None
    assert cited["page"] == 2


def test_a_question_about_something_else_is_not_answered(client: openai.OpenAI) -> None:
    text, cited = ask(client, "mill", user("Zwölf Boxkämpfer jagen Viktor quer"))
    assert text == NOT_FOUND
    assert cited is not None
    assert [cited[name] for name in ("part", "parts", "passage")] == [None, [], None]


def test_a_request_may_name_the_page_the_number_of_parts_or_none(
    client: openai.OpenAI, shelf: Shelf
) -> None:
    question = user(QUESTIONS["mill"][0])
    for wish, pages in (({"page": "p. 2"}, {2}), ({"parts": 2}, {1, 2})):
        _, cited = ask(client, "mill", question, **wish)
        assert cited is not None
        assert {part["page"] for part in cited["parts"]} == pages
    options = shelf.asking.__class__(
        str(shelf.base), "cpu", N_TOKENS, offline=True, parts=PartOptions(whole=True)
    )
    expected = shelf.load("mill").answer(question, options=options).text
    text, cited = ask(client, "mill", question, whole=True)
    assert cited is not None
    assert (text, len(cited["parts"])) == (expected, 1)
    assert cited["passage"] in shelf.load("mill").kept.records[cited["part"]].text


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"pages": "p. 2"}, "d2l.pages"),
        ({"page": 2}, "d2l.page"),
        ({"parts": 0}, "d2l.parts"),
        ({"whole": True, "parts": 2}, "d2l"),
        ({"page": "p. 99"}, "d2l"),
    ],
)
def test_other_wishes_are_refused(wish: dict[str, Any], param: str, server: Running) -> None:
    status, _, body = send(server, "/v1/chat/completions", chat_body(model="mill", d2l=wish))
    assert (status, body["error"]["param"]) == (400, param)


def test_pages_of_what_has_no_parts_are_refused(server: Running) -> None:
    base = server.server.library.base
    body = chat_body(model=base, d2l={"page": "p. 1"})
    assert send(server, "/v1/chat/completions", body)[0] == 400


def test_prompt_and_answer_stay_within_the_window(client: openai.OpenAI, shelf: Shelf) -> None:
    adapted = shelf.load("mill")
    window = int(adapted.model.config.max_position_embeddings)
    question = QUESTIONS["mill"][0]
    n_prompt = adapted.read(user(question), AskOptions()).n_prompt
    question += " the" * (window - 3 - n_prompt)
    reply = client.chat.completions.create(
        model="mill", messages=user(question), max_tokens=N_TOKENS
    )
    assert reply.usage is not None
    assert reply.usage.completion_tokens <= 3
    assert reply.usage.total_tokens <= window
    with pytest.raises(openai.BadRequestError, match="this base reads 512"):
        say(client, "mill", question + " the" * 8)


def test_parts_that_change_are_read_anew_and_damaged_ones_refused(
    shelf: Shelf, tmp_path: Path
) -> None:
    folder = tmp_path / "adapters"
    shutil.copytree(shelf.folder / "boat.lora", folder / "boat.lora")
    shutil.copytree(shelf.folder / "mill.lora", folder / "mill.lora")
    with running(shelf, folder) as server, server.client() as client:
        assert ask(client, "mill", user(QUESTIONS["mill"][0]))[1] is not None
        shutil.rmtree(folder / "mill.lora")
        shutil.copytree(shelf.folder / "boat.lora", folder / "mill.lora")  # compiled anew
        expected = AdaptedModel.load(folder / "mill.lora", shelf.asking).answer(
            user(QUESTIONS["boat"][0])
        )
        assert ask(client, "mill", user(QUESTIONS["boat"][0]))[0] == expected.text
        index = json.loads((folder / "mill.lora" / PARTS).read_text("utf-8"))
        index["parts"].reverse()
        (folder / "mill.lora" / PARTS).write_text(json.dumps(index), "utf-8")
        for _ in range(2):
            with pytest.raises(openai.InternalServerError, match="belongs to another adapter"):
                ask(client, "mill", user(QUESTIONS["boat"][0]))
        assert ask(client, "boat", user(QUESTIONS["boat"][0]))[0] == expected.text
