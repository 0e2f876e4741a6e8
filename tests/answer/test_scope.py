"""Scope of a question: the document as a whole, the parts below a heading, or any part."""

import pytest

from d2l.adapters.parts import PartRecord
from d2l.answer.scope import find_scope


def make(name: str, *paths: str) -> list[PartRecord]:
    """Parts of a document, one for each path of headings ("Care > Filter")."""
    return [
        PartRecord(
            document=name,
            source="",
            headings=tuple(path.split(" > ")) if path else (),
            text="Some words.",
            n_tokens=3,
        )
        for path in paths
    ]


MANUAL = make(
    "aquila-radio.pdf",
    "1 Introduction",
    "2 Controls > 2.1 Keypad",
    "2 Controls > 2.2 Display",
    "3 Channel memory",
    "3 Channel memory > 3.1 Creating and deleting groups",
    "4 Warranty",
    "5 Main",
)
CHAPTERS = make(
    "song-book.epub",
    "Part I. Basics > Chapter 1. Download",
    "Part II. Use > Chapter 2. Song Editor",
    "Part II. Use > Chapter 2. Song Editor > 2.1. Toolbar",
    "Part II. Use > Chapter 3. Licensing",
    "Appendix A. Shortcuts",
)


@pytest.mark.parametrize(
    "question",
    [
        "What is this document about?",
        "what's this about",
        "What is it about?",
        "Summarize the document.",
        "Summary please",
        "tl;dr",
        "What kind of book is this?",
        "Can you give me a short overview of this handbook?",
        "Give me the gist in two sentences.",
        "Which topics does this manual cover?",
        "What topics are covered?",
        "List the chapters.",
        "List the main chapters.",
        "Show me the table of contents.",
        "How many chapters are there?",
        "How long is it?",
        "How long is this book?",
        "How many pages does the document have?",
        "Who is it for?",
        "Who is this guide intended for?",
        "What can I learn from this book?",
        "What is the purpose of this contract?",
        "What is the main idea of the paper?",
        "What are the key points of this report?",
        "What does this policy cover?",
        "Summarize the rules.",
        "What is the Aquila for?",
        "Worum geht es in diesem Dokument?",
        "Fasse das Handbuch kurz zusammen.",
        "De quoi parle ce document ?",
        "Résume ce texte.",
        "¿De qué trata este documento?",
        "Di cosa parla questo libro?",
        "Sobre o que é este documento?",
        "Waar gaat dit document over?",
    ],
)
def test_a_question_about_the_document_asks_about_the_whole(question: str) -> None:
    assert find_scope(question, MANUAL).kind == "whole"


@pytest.mark.parametrize(
    "question",
    [
        "What is the purpose of the filter?",
        "What are the squelch buttons for?",
        "Who is the contract with?",
        "How long is the battery life?",
        "How long is it valid?",
        "How long does the battery last?",
        "How many cards does each player get?",
        "How many pages per minute does it print?",
        "How is a trick scored?",
        "Who deals first?",
        "What does error E7 mean?",
        "What is this button?",
        "What do I learn from a beep at the start?",
        "What is the notice period?",
        "Which holidays are covered by overtime pay?",
        "What is the total amount of the invoice?",
        "Who wrote the abstract?",
        "When was the contract signed?",
        "How do I roast chickpeas?",
        "What is the main fuse rated at?",
        "Which accuracy does the model in the paper reach?",
        "Is the antenna part of the set?",
        "What goes into the contents tank?",
        "Wie lange hält der Akku?",
        "Combien de cartes reçoit chaque joueur ?",
        "¿Cuánto pesa la radio?",
    ],
)
def test_a_question_with_words_of_content_asks_for_a_fact(question: str) -> None:
    assert find_scope(question, MANUAL).kind == "fact"


@pytest.mark.parametrize(
    ("question", "indices"),
    [
        ("Summarize chapter 2.", (1, 2)),
        ("What is section 3.1 about?", (4,)),
        ("Was steht in Kapitel 3?", (3, 4)),
        ("List the buttons in the Keypad section.", (1,)),
        ("What does the chapter on controls deal with?", (1, 2)),
        ("Give an overview of the channel memory.", (3, 4)),
        ("What does the part about creation and deletion of groups say?", (4,)),
        ("What does the warranty cover?", (5,)),
        ("Summarize the warranty of the Aquila radio.", (5,)),
    ],
)
def test_a_question_names_a_heading(question: str, indices: tuple[int, ...]) -> None:
    scope = find_scope(question, MANUAL)
    assert (scope.kind, scope.indices) == ("below", indices)


@pytest.mark.parametrize(
    ("question", "indices"),
    [
        ("Summarize chapter 2.", (1, 2)),
        ("Summarize part II.", (1, 2, 3)),
        ("What is in appendix A?", (4,)),
        ("What is the chapter about licenses in the song book about?", (3,)),
        ("Give me an overview of the Song Editor.", (1, 2)),
    ],
)
def test_chapters_are_told_from_parts(question: str, indices: tuple[int, ...]) -> None:
    scope = find_scope(question, CHAPTERS)
    assert (scope.kind, scope.indices) == ("below", indices)


def test_a_heading_inside_a_part_is_found_in_its_text() -> None:
    records = make("manual.pdf", "2 Care", "2 Care", "2 Care > 2.2 Belt", "3 Errors")
    records[0] = records[0].model_copy(update={"text": "Wash it.\n2.1 Filter\nRinse it."})
    records[1] = records[1].model_copy(update={"text": "Dry it.\n\n2.2 Belt\n\nLook at it."})
    assert find_scope("Summarize section 2.1.", records).indices == (0,)
    assert find_scope("Give an overview of the filter.", records).indices == (0,)
    assert find_scope("Summarize section 2.2.", records).indices == (1, 2)


def test_a_heading_of_common_words_is_named_whole() -> None:
    records = make("2404.01234.pdf", "1 Introduction", "2 Related Work", "§ 3 Method")
    assert find_scope("Summarize the related work.", records).indices == (1,)
    assert find_scope("Summarize section 3.", records).indices == (2,)


def test_a_chapter_that_does_not_exist_is_no_scope() -> None:
    assert find_scope("Summarize chapter 9.", MANUAL[1:]).indices == ()


def test_the_title_names_the_whole() -> None:
    assert find_scope("What is RTKLIB for?", MANUAL).kind == "fact"
    assert find_scope("What is RTKLIB for?", MANUAL, title="RTKLIB ver. 2").kind == "whole"
