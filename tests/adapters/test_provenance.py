"""d2l.json: what is read is written back, and what is damaged is one clear line."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from d2l.adapters import provenance
from d2l.adapters.provenance import Input, Provenance
from d2l.errors import AdapterError
from tests.records import MINIMAL

SCHEMA = Path(provenance.__file__).with_name("provenance.schema.json")
#: As d2l 0.1.0 wrote them first: without characters, bias ranks and tokens per seat.
OLD = MINIMAL | {
    "inputs": [
        {"name": "a.txt", "format": "text", "sha256": "a", "size_bytes": 9, "notes": ["é \ud800"]}
    ],
    "chunks": [
        {"index": 0, "document": "a.txt", "source": "", "n_tokens": 9, "ranks": [0, 2]},
        {"index": 1, "document": "a.txt", "source": "p. 2", "n_tokens": 3, "ranks": None},
    ],
    "rank_before_max_rank": 4,
    "options": {"merge": "concat", "scale": 1, "bias_scale": 1.0, "dtype": "bf16"},
    "merge_error": {"model.layers.0.mlp.up_proj": 0.25},
    "prompt": {
        "chat_template": "chat_template.jinja",
        "turns": "user",
        "opening": {"ids": [1, 2], "text": "a\nb", "seats": [1]},
    },
    "norms": {"layers": [0.0, 1.5], "chunks": [1, 2]},
}


def refuse(values: Any) -> str:
    with pytest.raises(AdapterError) as caught:
        Provenance.from_json(values, source="d2l.json")
    assert caught.value.hint
    assert caught.value.message.isprintable()
    return caught.value.message


@pytest.mark.parametrize(
    "values",
    [
        MINIMAL,
        OLD,
        OLD | {"new": {"deep": [1]}, "chunks": [OLD["chunks"][0] | {"new": 2}]},
        MINIMAL | {"merge": {"method": "concat"}, "parents": [{"adapter": "a", **OLD}]},
    ],
)
def test_what_is_read_is_written_back(values: dict[str, Any]) -> None:
    made = Provenance.from_json(values, source="d2l.json")
    assert json.dumps(made.to_json(), sort_keys=True) == json.dumps(values, sort_keys=True)
    with pytest.raises(ValidationError):
        made.rank = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("rank",), "2", "rank: expected a whole number that is not negative"),
        (("rank",), True, "rank: expected a whole number that is not negative"),
        (("rank",), 2.0, "rank: expected a whole number that is not negative"),
        (("rank",), 10**300, "rank: expected a whole number that is not negative"),
        (("rank",), 10**4000, "rank: is not a finite number"),
        (("tool",), [], "tool: expected a JSON object"),
        (("inputs",), {"a": 1}, "inputs: expected a list"),
        (("inputs", 0, "name"), None, "inputs[0].name: expected text"),
        (("inputs", 0, "name"), "a\x1b[2J", "inputs[0].name: has control characters"),
        (("chunks", 1, "ranks"), [3, 1], "chunks[1].ranks: expected a start that is not behind"),
        (("chunks", 1, "ranks"), [3], "chunks[1].ranks: expected two numbers"),
        (("chunks", 1, "ranks"), [0, -1], "chunks[1].ranks: expected a whole number"),
        (("chunks", 0, "ranks"), [0, 3], "chunks[0].ranks: the adapter has rank 2"),
        (("chunks", 0, "ranks"), [0, 10**10], "chunks[0].ranks: the adapter has rank 2"),
        (("chunks", 1, "ranks"), [1, 2], "chunks: the ranks from 1 on are named twice"),
        (("bias_ranks",), [0, 10**10], "bias_ranks: the adapter has rank 2"),
        (("seats",), 10**10, "seats: 10000000000 are more than any opening has"),
        (("seats",), -1, "seats: expected a whole number that is not negative"),
        (("seats",), 1, "chunks[0].ranks: the adapter has 1 seats"),
        (("prompt", "opening", "seats"), [2], "prompt.opening: a seat is no position of its ids"),
        (("options", "scale"), "1", "options.scale: expected a number"),
        (("options", "scale"), float("inf"), "options.scale: is not a finite number"),
        (("norms", "layers"), [float("nan")], "norms.layers[0]: is not a finite number"),
        (("prompt", "opening", "ids"), [1, "2"], "prompt.opening.ids[1]: expected a whole number"),
        (("merge_error",), {"a\x07": 1.0}, "a name in merge_error: has control characters"),
        (("new",), {"deep": ["\x9b"]}, "new.deep[0]: has control characters"),
        (("format",), True, "format is True, this d2l reads 1"),
        (("format",), "x" * 999, "format is 'xxxx"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(place: tuple[Any, ...], value: Any, says: str) -> None:
    values = copy.deepcopy(OLD)
    at: Any = values
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    assert refuse(values).startswith(f"d2l.json: {says}")


def test_chunks_that_share_all_their_ranks_or_have_none_are_read() -> None:
    first, second = OLD["chunks"]
    for spans in ([[0, 2], [0, 2]], [[0, 1], [1, 1], [1, 2]], [[1, 2], [0, 1]], [[0, 0], [0, 2]]):
        chunks = [(first if n == 0 else second) | {"ranks": span} for n, span in enumerate(spans)]
        assert Provenance.from_json(OLD | {"chunks": chunks}, source="d2l.json").chunks


@pytest.mark.parametrize("key", sorted(MINIMAL.keys() - {"format"}))
def test_a_key_that_is_missing_is_named(key: str) -> None:
    assert refuse({name: MINIMAL[name] for name in MINIMAL if name != key}) == (
        f"d2l.json: {key} is missing"
    )
    chunk = {name: v for name, v in OLD["chunks"][0].items() if name != "source"}
    assert refuse(OLD | {"chunks": [chunk]}) == "d2l.json: chunks[0].source is missing"


def test_values_nested_beyond_reason_are_refused() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert refuse(MINIMAL | {"new": deep}).startswith("d2l.json: ")


@pytest.mark.parametrize("n_merges", [90, 110, 400])
def test_what_is_accepted_can_be_written_however_deeply_it_is_nested(n_merges: int) -> None:
    parents: list[Any] = []
    for _ in range(n_merges):
        parents = [{"parents": parents}]
    values = MINIMAL | {"parents": parents}
    if n_merges > 100:
        assert refuse(values).endswith("is nested too deeply")
    else:
        assert Provenance.from_json(values, source="d2l.json").to_json() == values


def test_control_characters_of_a_document_are_written_as_what_can_be_read() -> None:
    named = Input(name="a\x1b.txt", format="text", sha256="a", size_bytes=1)
    made = Provenance.from_json(MINIMAL, source="d2l.json").model_copy(update={"inputs": (named,)})
    written = made.to_json()
    assert written["inputs"][0]["name"] == "a\ufffd.txt"
    assert Provenance.from_json(written, source="d2l.json").inputs[0].name == "a\ufffd.txt"


def test_the_schema_beside_the_module_is_that_of_its_records() -> None:
    assert json.loads(SCHEMA.read_text("utf-8")) == Provenance.model_json_schema(), (
        "write it again: make docs"
    )
