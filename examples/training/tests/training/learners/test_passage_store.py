import json
from pathlib import Path

import pytest

from d2l.bases.tokenizers import BaseTokenizer
from d2l.errors import RecipeError
from d2l_lab.training.learners import passage_store
from d2l_lab.training.learners.document_data import Passage
from d2l_lab.training.learners.passage_store import PassageStore, build_pools, load_store
from d2l_lab.training.learners.recipes import DataSource
from examples.training.tests.toy import write_data
from tests import tiny

PASSAGES = [
    Passage("The pump is old.", (5, 6, 7), (("How old?", "old"), ("What?", "pump")), "a"),
    Passage("Räder, 轮子.", (1,), (), "b"),
    Passage("The valve.", (9, 70_000), (("Which?", "valve"),), "a"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "passages"


def contents(store: PassageStore) -> list[tuple[object, ...]]:
    return [(one.text, one.token_ids, one.questions) for one in store]


def test_passages_come_back_as_they_were_groups_together(tmp_path: Path) -> None:
    store = PassageStore.from_passages(PASSAGES)
    wanted = [(p.text, p.token_ids, p.questions) for p in (PASSAGES[0], PASSAGES[2], PASSAGES[1])]
    assert contents(store) == wanted
    assert [list(store.neighbors(place)) for place in range(3)] == [[0, 1], [0, 1], [2]]
    store.save(tmp_path / "kept.st")
    kept = load_store(tmp_path / "kept.st")
    assert kept is not None
    assert contents(kept) == wanted


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_damaged_or_missing_store_is_none(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "kept.st"
    if damage is not None:
        path.write_bytes(damage)
    assert load_store(path) is None


def build(folder: Path, limit: int = 24, max_documents: int = 100) -> PassageStore:
    base = folder / "base"
    tokenizer = BaseTokenizer(base if base.is_dir() else tiny.write_base(base, "llama"))
    sources = [DataSource("toy.jsonl", 1.0, max_documents)]
    pools = build_pools(sources, [limit], folder=folder, tokenizer=tokenizer, minimum=4)
    ((_, store),) = pools[limit]
    assert isinstance(store, PassageStore)
    return store


def test_second_start_cuts_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path)
    first = contents(build(tmp_path))
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(passage_store, "cut_passages", None)
    assert contents(build(tmp_path)) == first
    with pytest.raises(TypeError):  # another limit is other passages
        build(tmp_path, limit=25)


def test_damaged_store_is_made_anew(tmp_path: Path, cache: Path) -> None:
    write_data(tmp_path)
    first = contents(build(tmp_path))
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    assert contents(build(tmp_path)) == first
    assert load_store(kept) is not None


def test_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path)
    first = contents(build(tmp_path))
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "file"))
    assert contents(build(tmp_path)) == first


def test_documents_keep_their_order_also_where_some_are_left_out(tmp_path: Path) -> None:
    rows = [{"doc": f"{'pump ' * (number + 4)}."} for number in range(15)]
    (tmp_path / "toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    every, some = build(tmp_path), build(tmp_path, max_documents=7)
    lengths = [len(passage.text) for passage in every]
    assert lengths == sorted(lengths)
    chosen = [len(passage.text) for passage in some]
    assert chosen == sorted(chosen)
    assert len(chosen) == 7
    assert chosen != lengths[:7]


def test_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"toy\.jsonl: cannot be read"):
        build(tmp_path)
