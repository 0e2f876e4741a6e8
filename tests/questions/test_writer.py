"""What a writer is given, and which of its questions count."""

from typing import Any

import pytest
import torch

from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.bases.chat import make_chat
from d2l.bases.models import find_base, load_causal
from d2l.bases.tokenizers import load_tokenizer
from d2l.inference.attached import attached, on_device
from d2l.questions.marks import Span
from d2l.questions.replies import agrees, is_question, quote
from d2l.questions.writer import WRITERS, QuestionWriter, find_writer, mark
from tests import tiny

TEXT = "The tower (built in 1931)\nstands in Oldport. It has 96 steps."


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("1931", "The tower (built in [[1931]]) stands in Oldport. It has 96 steps."),
        ("The tower", "[[The tower]] (built in 1931) stands in Oldport. It has 96 steps."),
        ("96 steps", "The tower (built in 1931) stands in Oldport. It has [[96 steps]]."),
        ("1931)\nstands", "The tower (built in [[1931) stands]] in Oldport. It has 96 steps."),
    ],
)
def test_an_answer_is_marked_among_the_words_around_it(answer: str, wanted: str) -> None:
    start = TEXT.index(answer)
    assert mark(TEXT, Span(start, start + len(answer))) == wanted


def test_long_texts_are_cut_around_the_answer() -> None:
    words = [f"w{n}" for n in range(100)]
    text = " ".join(words)
    start = text.index("w50")
    found = mark(text, Span(start, start + 3)).split()
    assert found == [*words[38:50], "[[w50]]", *words[51:63]]


@pytest.mark.parametrize(
    ("question", "counts"),
    [
        ("When was the tower built?", True),
        ("When was the tower built in 1931?", False),  # tells it
        ("The tower was built then.", False),
        ("When? Where was it built?", False),
        ("Why?", False),
        ("When was the [[tower]] built?", False),
        ("When was " + "the very " * 16 + "old tower built?", False),
    ],
)
def test_only_single_questions_that_do_not_tell_count(question: str, counts: bool) -> None:
    assert is_question(question, answer="1931") == counts


@pytest.mark.parametrize(
    ("reply", "answer", "same"),
    [
        ("In 1931.", "1931", True),
        ("the Tower", "tower", True),
        ("The pump has a pressure of 3.5 bar", "3.5 bar", True),
        ("1932", "1931", False),
        ("19310", "1931", False),
        ("2", "two", True),
        ("Seventy pumps", "70 pumps", True),
        ("3", "two", False),
        ("", "1931", False),
        ("It was built by many people of the town in the year 1931, they say", "1931", False),
        ("rinse the filter under warm water", "rinse the filter with warm water", True),
        ("rinse it", "rinse the filter with warm water", False),
    ],
)
def test_replies_agree_in_words_not_in_letters(reply: str, answer: str, same: bool) -> None:
    assert agrees(reply, answer) == same


def test_a_reply_that_repeats_the_question_is_no_long_one() -> None:
    question, reply = (
        "When was the Joe and Rika Mansueto Library in Chicago built?",
        "The Joe and Rika Mansueto Library in Chicago was built in 2011.",
    )
    assert agrees(reply, "2011", question=question)
    assert not agrees(reply, "2011")
    assert not agrees(reply, "2012", question=question)


CITIES = "Its pumps give 5–8 bar. They stand in Alden, Boro and Cade. It costs $3.5 million."


@pytest.mark.parametrize(
    ("marked", "reply", "question", "quoted"),
    [
        ("5", "5-8 bar", "", "5–8 bar"),
        ("Alden", "Pumps stand in Alden, Boro and Cade.", "Where do pumps stand?", CITIES[38:58]),
        ("Boro", "Alden, Boro and Cade", "", "Alden, Boro and Cade"),
        ("$3.5 million", "3.5 million", "", "$3.5 million"),
        ("Cade", "Boro", "", "Cade"),  # not what was marked
        ("Cade", "Cade in the north", "", "Cade"),  # not what the text says
        ("bar", "pumps give 5-8 bar they stand", "", "bar"),  # too much
        ("bar", "", "", "bar"),
    ],
)  # fmt: skip
def test_a_reply_that_quotes_more_around_the_mark_is_the_answer(
    marked: str, reply: str, question: str, quoted: str
) -> None:
    start = CITIES.index(marked)
    span = Span(start, start + len(marked))
    assert quote(reply, CITIES, span, question=question).of(CITIES) == quoted


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("writer") / "qwen2-tiny"
    tiny.write_base(root, "qwen2")
    return find_base(str(root), offline=True)


def make_writer(base: Any) -> QuestionWriter:
    causal = load_causal(base, device="cpu", dtype=torch.float32)
    torch.manual_seed(1)
    name = "model.layers.1.self_attn.q_proj"
    module = causal.get_submodule(name)
    factors = LoraFactors(torch.randn(2, module.in_features), torch.randn(module.out_features, 2))
    chat = make_chat(load_tokenizer(base.folder))
    return QuestionWriter(causal, chat, LoraWeights("tiny", 0.5, {name: factors}))


def test_weights_are_on_the_base_for_a_block_alone(base: Any) -> None:
    writer = make_writer(base)
    ((name, f),) = writer.weights.factors.items()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        bare = writer.causal(ids).logits
        with attached(writer.causal, on_device(writer.weights, "cpu"), writer.weights.scale):
            found = writer.causal(ids).logits
        assert torch.equal(writer.causal(ids).logits, bare)
        writer.causal.get_submodule(name).weight += 0.5 * f.b @ f.a
        expected = writer.causal(ids).logits
    assert not torch.allclose(found, bare, atol=1e-3)
    assert torch.allclose(found, expected, atol=1e-4)


def test_prompts_of_a_passage_begin_alike_and_end_as_the_chat_does(
    base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, prompts = make_writer(base), list[tuple[int, ...]]()

    def note(_self: QuestionWriter, given: Any, *_: object, **__: object) -> list[str]:
        prompts.extend(given)
        return ["", ""]

    monkeypatch.setattr(QuestionWriter, "_generate", note)
    writer.write(TEXT, [Span(20, 24), Span(36, 43)])
    before, after = writer.chat.ask_ends()
    passage = (*before, *writer.chat.tokenizer.encode(TEXT))
    for prompt, marked in zip(prompts, ("[[1931]]", "[[Oldport]]"), strict=True):
        assert prompt[: len(passage)] == passage
        assert prompt[-len(after) :] == tuple(after)
        text = writer.chat.tokenizer.decode(prompt)
        assert f"{TEXT}\n\nAsk a question" in text
        assert marked in text


def test_only_what_the_base_answers_is_kept(base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer asks with its weights on, the base answers without them."""
    writer = make_writer(base)
    spans = [Span(TEXT.index(a), TEXT.index(a) + len(a)) for a in ("1931", "Oldport", "96 steps")]
    questions = ["When was it built?", "Where does it stand?", "How many steps has it?"]
    replies = ["In 1931", "in the meadow", "96 steps"]
    seen: list[bool] = []

    def generate(self: QuestionWriter, prompts: Any, *_: object, **__: object) -> list[str]:
        module = self.causal.get_submodule("model.layers.1.self_attn.q_proj")
        seen.append(bool(module._forward_hooks))
        return (questions if seen[-1] else replies)[: len(prompts)]

    monkeypatch.setattr(QuestionWriter, "_generate", generate)
    asked = writer.write(TEXT, spans)
    assert asked == [(q, s) for q, s in zip(questions, spans, strict=True)]
    assert writer.keep_answered(TEXT, asked) == asked[::2]
    assert seen == [True, False]


def test_a_writer_that_is_shipped_fits_its_base() -> None:
    from d2l.adapters.peft_folder import read_adapter
    from d2l.bases.catalog import BY_ALIAS

    shipped = [path for path in WRITERS.iterdir() if path.is_dir()]
    assert shipped
    for folder in shipped:
        base = BY_ALIAS[folder.name].name
        assert find_writer(base) == folder
        assert read_adapter(folder).base == base
        assert sum(p.stat().st_size for p in folder.iterdir()) < 8_000_000
    assert find_writer("another") is None
