import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d2l.api.compiler import Compiler
from d2l.bases.tokenizers import load_tokenizer
from d2l.compiler import run as pipeline
from d2l.datasets.questions import read_questions
from d2l.errors import ProbeError
from d2l.evaluation.recall.arms import Arms, Gathered, ProbeOptions
from d2l.evaluation.recall.documents import draw_documents
from d2l.evaluation.recall.network import draw_cells, probe_sets
from d2l.evaluation.recall.report import Probe
from d2l.hypernets.network import Loaded
from d2l.hypernets.options import CompileOptions
from d2l.inference.adapted_model import AdaptedModel, AskOptions
from d2l.inference.parts.choose import PartOptions
from tests.compiled import write_files

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("Ada", "Bob", "Cleo", "Dora", "Emil", "Fay")
OPTIONS = ProbeOptions(limit=4, batch=3, harm=False)


def write_set(path: Path) -> Path:
    """Texts about people, two facts each."""
    rows = []
    for number, name in enumerate(NAMES):
        text = (
            f"{name} keeps the lantern of tower {number}. The copper key of {name} is blue{name}. "
            "The filter is rinsed every day, and the pump stands in the harbor."
        )
        rows += [
            {"doc": text, "question": "Which tower?", "answers": [f"tower {number}"]},
            {"doc": text, "question": f"What is the key of {name}?", "answers": [f"blue{name}"]},
        ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    write_files(folder, "seats")
    write_set(folder / "people.jsonl")
    return folder


def compiling(root: Path) -> CompileOptions:
    base, checkpoint = write_files(root, "seats")
    return CompileOptions(
        checkpoint=str(checkpoint),
        base=str(base),
        device="cpu",
        tokens_per_seat=6,
        dtype="fp32",
        offline=True,
    )


def asking(root: Path) -> AskOptions:
    return AskOptions(base=compiling(root).base, device="cpu", max_new_tokens=4, offline=True)


def probe(root: Path, *lengths: int, sets: int = 1, **changes: Any) -> Probe:
    return probe_sets(
        [root / "people.jsonl"] * sets,
        lengths,
        compiling=changes.pop("compiling", compiling(root)),
        asking=asking(root),
        options=ProbeOptions(**(vars(OPTIONS) | changes)),
    )


@pytest.fixture(autouse=True)
def own_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D2L_CACHE_DIR", str(root / "cache"))


def test_rows_are_those_of_compiling_loading_and_asking_one_by_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = probe(root, 90, 260)
    assert not list(tmp_path.iterdir())  # nothing is left behind
    assert [(row["length"], row["arm"], row["n"]) for row in found.rows] == [
        (length, arm, 4) for length in (90, 260) for arm in ("adapter", "prompt", "base")
    ]
    questions = read_questions(root / "people.jsonl")
    tokenizer = load_tokenizer(Path(str(compiling(root).base)))
    for length in (90, 260):
        gathered, arms = Gathered(), Arms(OPTIONS.batch)
        documents = draw_documents(questions, tokenizer=tokenizer, length=length, limit=4)
        for number, asked in enumerate(documents):
            out = tmp_path / f"{length}-{number}.lora"
            Compiler(compiling(root))(asked.document).save_pretrained(out)
            whole = replace(asking(root), parts=PartOptions(whole=True))
            asker = AdaptedModel.load(out, whole)
            text = asked.document.text
            arms.ask_all(asker, asked.questions, text, gathered)
        for row in found.rows:
            if row["length"] == length:
                marks = getattr(gathered, row["arm"])
                assert row["nll"] == pytest.approx(sum(m.nll for m in marks) / 4, abs=1e-4)
                assert row["f1"] == pytest.approx(sum(m.f1 for m in marks) / 4)
                assert row["documents"] == len(documents)
                tokens = [len(tokenizer.encode(asked.document.text)) for asked in documents]
                assert row["tokens"] == pytest.approx(sum(tokens) / len(tokens))


def test_the_compilers_base_and_network_are_loaded_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    load = pipeline.load

    def count(plan: pipeline.CompilePlan) -> Loaded:
        loads.append(plan.options.device)
        return load(plan)

    monkeypatch.setattr(pipeline, "load", count)
    found = probe(root, 90)
    assert found.rows[0]["documents"] > 1
    assert loads == ["cpu"]


def test_harm_is_that_of_the_fewest_and_the_most_seats(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two prompts of our own instead of 200: the time, not the measure, is the point here.
    monkeypatch.setattr(
        "d2l.evaluation.harm.read_harm_prompts", lambda: ["Why?", "Count to three."]
    )
    harm = probe(root, 90, 260, harm=True).harm
    assert harm is not None
    fewest, most = harm["by_seats"]
    assert fewest["seats"] < most["seats"]
    assert {key: harm[key] for key in most} == most


def test_sets_are_called_by_their_file_names_or_paths_where_these_are_equal(root: Path) -> None:
    path = root / "people.jsonl"
    for sets, names in (([path], ["people"]), ([path, path], [str(path)] * 2)):
        cells = draw_cells(sets, [90], Compiler(compiling(root)), OPTIONS)
        assert [name for name, _, _ in cells] == names


def test_a_set_that_answers_nothing_at_a_length_is_refused(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "hopeless.jsonl"
    path.write_text('{"doc": "A text.", "question": "Who?", "answers": ["Nobody"]}\n', "utf-8")
    with pytest.raises(ProbeError) as caught:
        draw_cells([path], [90], Compiler(compiling(root)), OPTIONS)
    assert caught.value.message == f"{path}: no passage of at most 90 tokens answers a question"


# ---- what the documents do not answer -----------------------------------------------------------


def write_articles(path: Path) -> Path:
    """The same texts, as passages of two articles."""
    rows = map(json.loads, write_set(path).read_text("utf-8").splitlines())
    titled = [row | {"title": f"article {n // 6}"} for n, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in titled), "utf-8")
    return path


def test_neighbors_are_asked_of_every_arm_and_counted(root: Path, tmp_path: Path) -> None:
    found = probe_sets(
        [write_articles(tmp_path / "articles.jsonl")],
        [90],
        compiling=compiling(root),
        asking=asking(root),
        options=ProbeOptions(**(vars(OPTIONS) | {"unanswerable": "neighbors"})),
    )
    assert [row["arm"] for row in found.silence] == ["adapter", "prompt", "base"]
    for row in found.silence:
        assert (row["set"], row["length"]) == ("articles", 90)
        assert row["false_answers"]["n"] == 4  # as many as are answered
        assert row["false_silences"]["n"] == 4
    assert found.to_json()["unanswerable"] == list(found.silence)


def test_sets_without_neighbors_are_refused_before_anything_is_computed(root: Path) -> None:
    changed = ProbeOptions(**(vars(OPTIONS) | {"unanswerable": "neighbors"}))
    with pytest.raises(ProbeError, match="has no question for its documents of 90 tokens"):
        draw_cells([root / "people.jsonl"], [90], Compiler(compiling(root)), changed)


def test_a_files_questions_go_with_the_passages_of_their_documents(
    root: Path, tmp_path: Path
) -> None:
    lines = (root / "people.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["doc"] for line in lines][::2]
    path = tmp_path / "unanswerable.jsonl"
    rows = [{"doc": text, "question": f"How old is it? ({n})"} for n, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    changed = ProbeOptions(**(vars(OPTIONS) | {"unanswerable": str(path)}))
    ((_, _, drawn),) = draw_cells([root / "people.jsonl"], [90], Compiler(compiling(root)), changed)
    for asked in drawn:
        assert [one.document for one in asked.unanswerable] == [asked.questions[0].document]
