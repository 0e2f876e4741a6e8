"""Answers in Python: a text with place, passage and end; and what a conversation leaves of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import d2l
from d2l.adapters.info import TEXT, read_info
from d2l.adapters.parts import PartRecord, read_text
from d2l.answer.cite import Citation, explain, explain_whole, refuse
from d2l.answer.events import Ending, Event, TextPiece
from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.answer.scope import list_needed, stands_alone
from d2l.answer.writing import hold_refusals
from d2l.datasets.silence import NOT_FOUND, SILENCE
from d2l.errors import AdapterError, OptionError
from tests.asking import judge
from tests.compiled import Compile, Compiled, compile_tiny, make_document
from tests.loaded import load, record_prompts

pytestmark = pytest.mark.usefixtures("one_thread")
QUESTION = "How often is the filter rinsed?"
Turns = list[dict[str, str]]


def user(text: str) -> Turns:
    return [{"role": "user", "content": text}]


def make_part(text: str, page: int = 1) -> PartRecord:
    return PartRecord(document="mill.pdf", source=f"p. {page}", text=text, n_tokens=9)


# ---- the passage --------------------------------------------------------------------------------


def test_an_answer_is_a_text_with_place_passage_and_end(tmp_path: Path) -> None:
    asker = load(compile_tiny(tmp_path, "seats", parts=True))
    answer = asker.ask(QUESTION, max_new_tokens=2)
    assert isinstance(answer, str)
    assert type(str(answer)) is str
    assert (answer.text, answer.finish, answer.found) == (str(answer), "length", True)
    assert answer.place == answer.citations[0].part.place
    assert answer.passage in " ".join(answer.citations[0].part.text.split())
    assert answer.supported is False
    second = asker.ask(QUESTION, max_new_tokens=2, page="p. 2")
    assert "p. 2" in {part.part.source.replace("p. 1-2", "p. 2") for part in second.citations}
    with pytest.raises(OptionError, match=r"p\. 9"):
        asker.ask(QUESTION, page="p. 9")


def test_a_page_of_an_adapter_without_parts_is_refused(compiled: Compile) -> None:
    with pytest.raises(OptionError, match="has no parts"):
        load(compiled("llama")).ask(QUESTION, page="p. 1")


def test_the_place_of_a_part_with_several_headings_names_the_last_too() -> None:
    part = make_part("Rinse it.")
    for source, place in (
        ("§ Filter", "Mill > Filter"),
        ("§ Filter … Lamps", "Mill > Filter … Lamps"),
        ("p. 3-5", "p. 3-5, Mill > Filter"),
    ):
        titled = part.model_copy(update={"source": source, "headings": ("Mill", "Filter")})
        assert titled.place == place
    assert part.model_copy(update={"source": "§ Filter … Lamps"}).place == "Filter … Lamps"


def test_the_part_with_the_passage_comes_first() -> None:
    parts = [make_part("The hopper is emptied on Monday."), make_part("The key hangs there.", 2)]
    cited = [Citation(n, part, 1.0, 0.5) for n, part in enumerate(parts)]
    answer = explain("Where is the key?", "hangs there", cited, n_read=2)
    assert (answer.place, answer.passage) == ("p. 2", "The key hangs there.")
    assert [one.index for one in answer.citations] == [1, 0]
    assert explain("Which key of the hopper?", "hangs there", cited, n_read=1).place == "p. 1"


def test_a_long_answer_may_have_its_words_in_several_parts() -> None:
    texts = [
        "The hopper has painted wooden sails, which turn slowly above the harbor wall. " * 3,
        "The lantern carries thin steel teeth, and a leather belt drives it loudly. " * 3,
    ]
    cited = [Citation(n, make_part(text, n), 1.0, 0.5) for n, text in enumerate(texts)]
    question, both = "How do the hopper and the lantern differ?", "".join(texts)
    assert explain(question, both, cited, n_read=2).supported
    assert not explain(question, both, cited, n_read=1).supported
    other = texts[0] + "A yellow parrot guards polished marble towers of distant kings. " * 3
    assert not explain(question, other, cited, n_read=2).supported


def test_a_greeting_has_no_place() -> None:
    cited = [Citation(0, make_part("The hopper is emptied on Monday."), 1.0, 0.5)]
    for greeting in ("Hello!", "Thanks a lot!"):
        answer = explain(greeting, "Hello! How can I assist you today?", cited, n_read=1)
        assert (answer.place, answer.passage, answer.to_json()["part"]) == (None, None, None)
        assert refuse(greeting, SILENCE, cited, "stop").place is None
    assert explain("Which hopper?", "I see.", cited, n_read=1).place == "p. 1"
    assert explain("List the bins.", "The hopper.", cited, n_read=1).place == "p. 1"


WATCH = (
    "The current folder is watched at first. To watch multiple directories, start nodemon with "
    "--watch, once for each of them, in any order. A change of the lantern restarts the pump."
)
TYPED = "hwo do i wacth mulitple direcotries with nodmon"  # codespell:ignore


def test_a_question_of_typing_errors_has_its_part_and_passage() -> None:
    cited = [Citation(0, make_part(WATCH), 1.0, 0.5)]
    answer = explain(TYPED, "Use a list of names.", cited, n_read=1)
    assert answer.place == "p. 1"
    assert answer.passage is not None
    assert "To watch multiple directories" in answer.passage
    assert answer.supported is False
    for typed in ("diretcories", "nodmon"):
        assert refuse(f"hwo {typed}?", SILENCE, cited, "stop").place == "p. 1"
    for other in ("What is the capital of France?", "How many dice?", "Where is 127?"):
        assert refuse(other, SILENCE, cited, "stop").place is None


def test_an_answer_without_a_word_of_its_part_names_what_was_read() -> None:
    parts = [make_part(WATCH), make_part("The hopper is emptied on Monday.", 2)]
    cited = [Citation(n, part, 1.0, 0.5) for n, part in enumerate(parts)]
    answer = explain("Who won?", "Nobody knows.", cited, n_read=1)
    assert [one.index for one in answer.citations] == [0, 1]
    assert answer.passage is not None
    assert answer.passage in WATCH
    assert answer.supported is False


def test_a_refusal_shows_the_closest_lines_and_is_no_statement_about_the_document() -> None:
    parts = (make_part("The lamp hangs."), make_part("The hopper is emptied. It is red.", 2))
    answer = explain_whole("When is the hopper emptied?", SILENCE, parts)
    assert (answer, answer.found, answer.place) == (NOT_FOUND, False, "p. 2")
    assert answer.passage == "The hopper is emptied."
    fields = answer.to_json()
    assert [fields[name] for name in ("part", "supported", "finish")] == [None, None, "stop"]
    assert refuse("When?", SILENCE, (), "stop") == NOT_FOUND
    assert explain("Who?", "It does not mention it.", (), n_read=0) == "It does not mention it."


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["The", " document does not", " say."], [NOT_FOUND]),
        (["The", " document", " names it."], ["The", " document", " names it."]),
        (["The", " document does"], ["The", " document does"]),
        (["Yes", "."], ["Yes", "."]),
    ],
)
def test_the_learned_refusal_is_not_streamed(pieces: list[str], shown: list[str]) -> None:
    events: list[Event] = [*map(TextPiece, pieces), Ending("stop", 9)]
    *out, ending = hold_refusals(iter(events))
    said = [event.text for event in out if isinstance(event, TextPiece)]
    assert (said, ending) == (shown, events[-1])


@pytest.mark.parametrize(
    ("pieces", "few", "shown"),
    [
        (["The text does", " not say."], ["44", " cards"], ["44", " cards"]),
        (["The text", " doesn't mention the cards."], [NOT_FOUND], [NOT_FOUND]),
        ([], [NOT_FOUND], [NOT_FOUND]),
        (["The pack", " has 44", " cards."], ["no"], ["The pack", " has 44", " cards."]),
        (["The text does not say", " why the lamp is red, and it is lit."], ["red"], ["red"]),
        (["The pack has 44 cards. " * 2, "The text ends."], ["no"], None),
    ],
)
def test_a_full_answer_that_refuses_in_any_wording_gives_way_to_few_words(
    pieces: list[str], few: list[str], shown: list[str] | None
) -> None:
    def write(texts: list[str]) -> Iterator[Event]:
        return iter([*map(TextPiece, texts), Ending("stop", len(texts))])

    *out, ending = hold_refusals(write(pieces), lambda: write(few))
    said = [event.text for event in out if isinstance(event, TextPiece)]
    assert said == (pieces if shown is None else shown)
    assert isinstance(ending, Ending)


# ---- the text of one memory ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_one_memory_keeps_its_text_unless_it_is_private(kind: str, tmp_path: Path) -> None:
    done = compile_tiny(tmp_path / "a", kind)
    answer = load(done).ask(QUESTION)
    assert answer.passage
    assert answer.place in ("p. 1", "p. 1-2", "p. 2")
    made = read_info(done.adapter)
    assert made.provenance is not None
    assert made.provenance.text_sha256 is not None
    assert "rinsed" in "".join(record.text for record in read_text(made))
    private = compile_tiny(tmp_path / "b", kind, no_text=True)
    hidden = load(private).ask(QUESTION)
    assert (hidden, hidden.passage, hidden.place) == (answer.text, None, None)
    assert not (private.adapter / TEXT).exists()
    assert "rinsed" not in (private.adapter / "d2l.json").read_text("utf-8")
    same = read_info(private.adapter).provenance
    assert same is not None
    assert same.text_sha256 is None


def test_text_that_was_changed_is_refused_and_deleted_text_is_not_missed(tmp_path: Path) -> None:
    done = compile_tiny(tmp_path, "llama")
    path = done.adapter / TEXT
    path.write_text(path.read_text("utf-8").replace("rinsed", "boiled"), "utf-8")
    with pytest.raises(AdapterError, match="it was changed"):
        load(done)
    path.unlink()
    assert load(done).ask(QUESTION).passage is None


def test_parts_need_their_text(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        compile_tiny(tmp_path, "seats", parts=True, no_text=True)
    assert caught.value.hint == "leave it out, or keep one memory: --no-parts"


def test_dropped_chunks_take_their_text_along_and_merged_ones_bring_it(tmp_path: Path) -> None:
    first = compile_tiny(tmp_path / "a", "llama", make_document("a.txt"))
    second = compile_tiny(tmp_path / "b", "llama", make_document("b.txt"))
    n_own = len(first.plan.chunks)
    left = d2l.edit(first.adapter, drop=["#0"])
    assert [one.source for one in left.records] == [c.source for c in first.plan.chunks[1:]]
    both = d2l.merge([first.adapter, second.adapter])
    assert [record.document for record in both.records] == ["a.txt"] * n_own + ["b.txt"] * n_own
    folder = both.save_pretrained(tmp_path / "both.lora")
    assert read_text(read_info(folder)) == both.records
    private = compile_tiny(tmp_path / "c", "llama", no_text=True)
    assert d2l.merge([first.adapter, private.adapter]).records == ()


# ---- conversations ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compile_tiny(tmp_path_factory.mktemp("kept"), "seats", parts=True)


def say_before(*questions: str) -> Turns:
    """Turns of a conversation with these questions."""
    answers: Any = [{"role": "assistant", "content": "In the tower."}]
    return [turn for question in questions for turn in (*user(question), *answers)]


FOUR = say_before("Where is the key?", "Who keeps the lantern?", "Hello!", "When was it built?")


def test_a_question_is_answered_alone_and_as_the_fifth_by_the_same_prompt(kept: Compiled) -> None:
    asker = load(kept)
    prompts = record_prompts(asker)
    alone = asker.answer(user(QUESTION))
    n_alone = len(prompts)
    fifth = asker.answer([*FOUR, *user(QUESTION)])
    assert prompts[n_alone:] == prompts[n_alone - len(prompts[n_alone:]) : n_alone]
    assert (fifth, fifth.citations) == (alone, alone.citations)


def test_a_follow_up_is_read_with_the_question_before_it_alone(kept: Compiled) -> None:
    asker = load(kept)
    turns = [*say_before("Who keeps the key?", QUESTION), *user("And how long?")]
    prompts = record_prompts(asker)
    first, again = (asker.read(own, AskOptions()) for own in (turns, turns[2:]))
    assert (first.n_prompt, first.verdict) == (again.n_prompt, again.verdict)
    assert prompts[-2] == prompts[-1]
    assert asker.read(user("And how long?"), AskOptions()).n_prompt != first.n_prompt
    system: Turns = [{"role": "system", "content": "Be brief."}]
    assert asker.focus([*system, *turns]) == [*system, *turns[2:]]


def test_a_task_reads_all_turns(compiled: Compile) -> None:
    asker = load(compiled("llama"))
    turns = [*FOUR, *user(QUESTION)]
    assert asker.focus(turns) == turns[-1:]
    assert asker.info.provenance is not None
    task = asker.info.provenance.model_copy(update={"inputs": ()})
    asker.info = replace(asker.info, provenance=task)
    assert asker.focus(turns) == turns


@pytest.mark.parametrize(
    ("question", "alone"),
    [
        ("Which ports does bank A have?", True),
        ("What is DFU?", True),
        ("How long does it take to open the pack in Omega?", True),
        ("Is it safe to put 5 V on CLKIN?", True),
        ("How long does RTKNAVI need for its first fix after the start?", True),
        ("Hello!", True),
        ("¿Qué frecuencia produce CLKOUT?", True),
        ("And bank B?", False),
        ("The other bank?", False),
        ("How often must it be rinsed?", False),
        ("What is its weight?", False),
        ("Why?", False),
        ("Und die Pumpe?", False),
    ],
)
def test_questions_that_need_the_turns_before(question: str, alone: bool) -> None:
    assert stands_alone(question) is alone
    assert list_needed([*FOUR, *user(question)]) == ([8] if alone else [6, 7, 8])


def test_a_refusal_streams_as_not_found(kept: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    judge(monkeypatch, most_silent=0.0, least_overlap=2.0)
    pieces: list[str] = []
    asking = AskOptions(str(kept.base), "cpu", 4, offline=True)
    answer = AdaptedModel.load(kept.adapter, asking).ask(QUESTION, pieces.append)
    assert (pieces, answer.text, answer.finish) == ([NOT_FOUND], NOT_FOUND, "stop")
    assert answer.passage


def test_turns_without_a_role_and_no_tokens_at_all_are_refused(compiled: Compile) -> None:
    asker = load(compiled("llama"))
    for turns in ([], [{"content": QUESTION}], [{"role": "user"}]):
        with pytest.raises(OptionError, match="a turn has no role or no content"):
            asker.answer(turns)
    with pytest.raises(OptionError, match="max_new_tokens is 0"):
        asker.ask(QUESTION, max_new_tokens=0)
