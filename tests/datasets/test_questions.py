import json
from pathlib import Path

import pytest

from d2l.datasets.questions import Question, read_questions
from d2l.errors import ProbeError

GOOD = {"question": "Where is the pump?", "answers": ["the harbor", "harbor"]}
HINT = "a row is a JSON object with question and answers, a list of texts ([]: no answer)"


def test_rows_are_read_and_other_keys_passed_over(tmp_path: Path) -> None:
    rows = [GOOD | {"id": 7}, {"question": " Why? ", "answers": [" rust "], "doc": "The text."}]
    path = tmp_path / "qa.jsonl"
    path.write_text("\n\n".join(map(json.dumps, rows)), "utf-8")
    assert read_questions(path) == [
        Question("Where is the pump?", ("the harbor", "harbor")),
        Question("Why?", ("rust",), "The text."),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"answers": ["x"]}', "'question' is missing"),
        ('{"question": "Why?"}', "'answers' is missing"),
        ('{"question": "Why?", "answers": null}', "answers is not a list of at least one text"),
        ('{"question": "Why?", "answers": "x"}', "answers is not a list of at least one text"),
        ('{"question": "Why?", "answers": ["x", " "]}', "expected text, got ' '"),
        ('{"question": 3, "answers": ["x"]}', "expected text, got 3"),
        ('{"question": "Why?", "answers": ["x"], "doc": 3}', "expected text, got 3"),
        ('{"question": "\\ud800", "answers": ["x"]}', "surrogates not allowed"),
    ],
)
def test_a_bad_row_is_one_line_with_its_number(row: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{row}\n", "utf-8")
    with pytest.raises(ProbeError) as caught:
        read_questions(path)
    assert caught.value.message.startswith(f"{path}, line 3: not a row of questions (")
    assert reason in caught.value.message
    assert caught.value.hint == HINT
