"""Characters that nothing shows: what may carry a message is told, what scripts need is not."""

import time

import pytest

from d2l.documents.screening.characters import find_unseen

BITS = "\u200b\u200c\u200c\u200b\u200b\u200c" * 8


def selector(byte: int) -> str:
    return chr(0xFE00 + byte) if byte < 16 else chr(0xE0100 + byte - 16)


@pytest.mark.parametrize(
    "text",
    [
        f"One.{BITS}\nTwo.",
        f"One {BITS} two",
        f"One{BITS}",
        f"One.{BITS}",
        f"{BITS}\nOne",
        "".join(char + selector(ord("i")) for char in "hello my friend"),
        "one \u200b" * 9,
        "".join(f"{char}\u3164\u115f" for char in "hello there"),
        "\u05d0 \u2067abc\u2069",
        "\u05d0 \u202babc",
        "admin \u2067name\u2069",
        "pay\u200d\u2060pal",
        "a" + "\u3164" * 5,
        "good \x1b[8mhidden words\x1b[0m",
        "good \x1b[0;31;8mhidden words\x1b[0m",
        "good \x9b38;5;7;8mhidden words",
    ],
)
def test_invisible_characters_that_may_carry_a_message_are_told(text: str) -> None:
    assert list(find_unseen(text))


@pytest.mark.parametrize(
    "char",
    "\xad\u034f\u061c\u115f\u17b4\u180b\u180e\u200b\u2065\u206a\u2800\u3164\ufeff\uffa0\ufff0\ufff9"
    "\U0001bca0\U0001d173\U000e0080\U000e0fff",
)
def test_runs_of_any_of_them_are_told_once(char: str) -> None:
    text = f"pass{char * 40}word and more"
    assert [(length, at) for _, length, at in find_unseen(text)] == [(40, 4)]


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d👩\u200d👧 ❤\ufe0f\u200d🔥 1\ufe0f\u20e3 ©\ufe0f ‼\ufe0f " * 9,
        "می\u200cخواهم می\u200cروم نمی\u200cدانم ۵\u200cها، USB\u200cها " * 9,
        "क्\u200dष न्\u200cन " * 9,
        "ကို\u200bမြန်မာ ภาษา\u200bไทย " * 9,
        "ᠮᠣᠩᠭᠣᠯ\u180b ᠪᠠ\u180eᠠ " * 9,
        "soft\u00adhy\u00adphens\u00ad\nand more of Über\u00adgröße. " * 9,
        "\ufeffone\n\ufefftwo\n" * 9,
        "a/\u200bb/\u200bc, x.\u200by and [\u200b](#anchor)\n" * 9,
        "Title\u200b\n\u200b\n" * 9,
        "\u200fשלום\u200e, C++\u200e (a\u200e) \u2067עולם\u2069 \u2067C++ עולם\u2069" * 9,
        "⠓⠑⠇⠇⠕\u2800\u2800\u2800\u2800\u2800⠺⠕⠗⠇⠙",
        "가\u115f\u1160나 ㄱ\u3164",
        "\x1b[1;38;5;8mgray\x1b[0m \x1b[38;2;8;8;8mblack\x1b[0m \x1b[31mred\x1b[0m",
        "One\u200b and two\u200b, copied from a page.",
        "葛\U000e0101城",
    ],
)
def test_characters_that_scripts_and_signs_need_are_not(text: str) -> None:
    assert list(find_unseen(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "a" + "\u0301" * 49_900 + "\u0327",
        "a" + "\u0327\u0301" * 50_000,
        "a" + "\u0f73" * 66_000,  # falls apart into marks
        "a" + "\uff9e" * 66_000,
        "\u200b" * 66_000,
        "\u2067a" * 50_000 + "\u05d0",
        "\x1b[" + "1;" * 90_000,
    ],
)
def test_text_of_strangers_takes_the_time_of_one_pass(text: str) -> None:
    """The square of these lengths would take more than ten seconds."""
    began = time.process_time()
    list(find_unseen(text))
    assert time.process_time() - began < 2
