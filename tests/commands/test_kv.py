"""`--base FOLDER` alone: compile, ask, change, lock and serve by a base's own keys and values."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import trainers

from d2l.adapters.info import read_info
from d2l.adapters.parts import read_parts
from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.answer.said import Said
from d2l.api.compiler import Compiler
from d2l.commands.compile_report import report_plan
from d2l.compiler.card import write_card
from d2l.datasets.silence import FEW_WORDS, IN_FULL, INSTRUCTION, NOT_FOUND, TOPICS
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.seats import calibration
from d2l.parts.kept import PartOptions
from d2l.parts.kv import Kv
from tests import tiny
from tests.asking import judge
from tests.command import Command, Outcome
from tests.kv import CHUNK_TOKENS, HANDBOOK, measure_little, write_base
from tests.loaded import record_prompts
from tests.serving import Shelf, running, user

pytestmark = pytest.mark.usefixtures("one_thread")
BASE = "bases/qwen2-tiny"
ABOUT = "What is this handbook about?"
CHAPTER = "Summarize the chapter on valves."
FACT = "How often is the filter rinsed?"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, a handbook and the cache of what was measured; to be copied."""
    root = tmp_path_factory.mktemp("own")
    write_base(root / BASE, "qwen2")
    (root / "handbook.md").write_text(HANDBOOK, "utf-8")
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> Path:
    """A folder with the base, the handbook and its adapter, where commands run."""
    for variable in ("D2L_CHECKPOINT", "T2L_CHECKPOINT"):
        monkeypatch.delenv(variable, raising=False)
    measure_little(monkeypatch)
    if not (made / "mill.lora").exists():
        monkeypatch.chdir(made)
        monkeypatch.setenv("D2L_CACHE_DIR", str(made / "cache"))
        done = compile_handbook(command)
        assert done.code == 0, done.err
    root = Path(shutil.copytree(made, tmp_path / "place"))
    monkeypatch.chdir(root)
    monkeypatch.setenv("D2L_CACHE_DIR", str(root / "cache"))
    return root


def compile_handbook(command: Command, *more: object, out: str = "mill.lora") -> Outcome:
    fixed = ("--base", BASE, "-o", out, "--device", "cpu", "--offline")
    return command("compile", "handbook.md", *fixed, "--chunk-tokens", CHUNK_TOKENS, *more)


def ask(command: Command, question: str, *more: object, adapter: str = "mill.lora") -> Any:
    fixed = ("--device", "cpu", "--offline", "--max-tokens", 4, "--json")
    done = command("ask", adapter, question, *fixed, *more)
    assert done.code == 0, done.err
    return json.loads(done.out)["answers"][0]


def list_places(row: Any) -> list[str]:
    return [part["place"] for part in row["parts"]]


def list_records(adapter: str) -> list[Any]:
    parts = read_parts(read_info(Path(adapter)))
    assert parts is not None
    return list(parts.records)


@pytest.mark.usefixtures("place")
def test_the_overview_is_the_last_part_and_has_no_share_in_the_adapter() -> None:
    records = list_records("mill.lora")
    assert [record.is_overview for record in records] == [False] * (len(records) - 1) + [True]
    assert records[-1].text.startswith("Title: The mill\n")
    values = json.loads(Path("mill.lora/d2l.json").read_text("utf-8"))
    assert values["chunks"][-1]["ranks"][0] == values["chunks"][-1]["ranks"][1]
    assert values["checkpoint"]["name"] == "kv"
    assert values["prompt"]["instruction"] == INSTRUCTION


@pytest.mark.usefixtures("place")
def test_inspect_begins_with_what_the_adapter_knows(command: Command) -> None:
    rows = [line.split(maxsplit=1) for line in command("inspect", "mill.lora").out.splitlines()]
    assert [name for name, _ in rows[:5]] == ["adapter", "input", "parts", "outline", "base"]
    assert rows[1][1].startswith("handbook.md (markdown, ")
    assert rows[3][1] == "Pump; Valves; Lantern"


@pytest.mark.usefixtures("place")
def test_an_export_of_parts_is_offered_as_it_works() -> None:
    options = CompileOptions("kv", BASE, "cpu", True, chunk_tokens=CHUNK_TOKENS)
    plan = Compiler(options).plan("handbook.md")
    n_seats = plan.config.max_seats
    held = replace(plan, cut=replace(plan.cut, held_by_one=plan.n_text_tokens))
    assert "other engines" not in report_plan(held).text + write_card(held).lower()
    chunks = tuple(replace(c, part_rank=min(c.part_rank, n_seats)) for c in plan.chunks)
    short, limit = replace(plan, cut=replace(plan.cut, chunks=chunks)), n_seats - 4
    needs = f", if you compile the document with `--chunk-tokens {limit}`"
    for one, offer, then in ((plan, f"--chunk-tokens {limit} and ", needs), (short, "", "")):
        text = f"question; other engines need {offer}d2l export --to parts\n"
        assert text in report_plan(one).text
        above, _, below = write_card(one).partition("## Load it")
        assert f"the code below, get about {n_seats} tokens of the document.** " in above
        assert f"gives the parts to other engines{then}.\n" in above
        assert "other engines" not in below.lower()


@pytest.mark.usefixtures("place")
def test_no_file_names_the_folder_of_the_base_and_it_is_found_again(
    command: Command,
) -> None:
    for path in Path("mill.lora").iterdir():
        assert b"bases/" not in path.read_bytes(), path.name
    assert ask(command, FACT)["adapter"] == ask(command, FACT, "--base", BASE)["adapter"]
    shutil.rmtree("cache")
    done = command("ask", "mill.lora", FACT, "--offline")
    assert done.code == 1
    assert "qwen2-tiny" in done.err


@pytest.mark.usefixtures("place")
def test_a_question_chooses_the_overview_a_chapter_or_parts_apart(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Said, "has", lambda *_: True)  # random weights repeat no text
    judge(monkeypatch, most_silent=-1.0)  # every part refuses
    assert list_places(ask(command, ABOUT)) == ["overview"]
    valves = ["The mill > Valves", "The mill > Valves > Spare valves"]
    assert list_places(ask(command, CHAPTER)) == valves
    row = ask(command, FACT)
    assert (row["adapter"], row["part"]) == (NOT_FOUND, None)
    judge(monkeypatch, most_silent=2.0)
    assert "overview" not in list_places(ask(command, FACT))
    for question in (ABOUT, CHAPTER, FACT):
        lantern = list_places(ask(command, question, "--page", "Lantern"))
        assert lantern == ["The mill > Lantern"]
        chosen = list_places(ask(command, question, "--parts", 2))
        assert len(chosen) == 2
        assert "overview" not in chosen
        (whole,) = ask(command, question, "--whole")["parts"]
        assert "overview" not in whole["place"]


def test_parts_of_a_chapter_stand_one_behind_another_in_front_of_the_question(
    place: Path,
) -> None:
    asker = AdaptedModel.load(place / "mill.lora", AskOptions(BASE, "cpu", 4, offline=True))
    records = list_records("mill.lora")
    turns = user(CHAPTER)
    start = asker.read(turns, asker.options)
    assert start.verdict.together
    assert start.verdict.must_answer
    n_parts = sum(records[n].n_seats for n in start.verdict.indices)
    assert isinstance(asker.kept, Kv)
    assert start.context is not None
    assert start.context.cache.n_tokens == len(asker.kept.index_opening) + n_parts


def test_a_long_conversation_leaves_room_for_the_parts_of_a_chapter(place: Path) -> None:
    asker = AdaptedModel.load(place / "mill.lora", AskOptions(BASE, "cpu", 40, offline=True))
    earlier = [*user(FACT), {"role": "assistant", "content": "Every 14 days."}] * 9
    turns, n_dropped = asker.fit([*earlier, *user(CHAPTER)])
    assert n_dropped
    start = asker.read(turns, asker.options)
    assert start.verdict.together
    assert start.n_prompt + 40 <= asker.window


@pytest.mark.usefixtures("place")
def test_a_second_compile_measures_and_reads_nothing(command: Command) -> None:
    before = {path: path.read_bytes() for path in Path("cache/moments").iterdir()}
    assert len(before) == 1
    done = compile_handbook(command, "--locked")
    assert "unchanged" in done.out
    again = compile_handbook(command, out="again.lora")
    assert "0 read" in again.out
    assert {path: path.read_bytes() for path in Path("cache/moments").iterdir()} == before
    for name in ("adapter_model.safetensors", "parts.safetensors", "parts.json", "d2l.json"):
        assert Path("again.lora", name).read_bytes() == Path("mill.lora", name).read_bytes()
    Path("handbook.md").write_text(HANDBOOK + "\nMore.\n", "utf-8")
    done = compile_handbook(command, "--locked")
    assert done.code == 1
    assert "input handbook.md changed" in done.err


@pytest.mark.usefixtures("place")
def test_pages_are_dropped_and_adapters_joined_with_their_overviews(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Said, "has", lambda *_: True)  # random weights repeat no text
    done = command("edit", "mill.lora", "--drop", "§ Pump", "-o", "less.lora", "--offline")
    assert done.code == 0, done.err
    left = list_records("less.lora")
    assert len(left) == len(list_records("mill.lora")) - 1
    assert left[-1].is_overview
    assert not any("Pump" in record.headings for record in left)
    assert list_places(ask(command, ABOUT, adapter="less.lora")) == ["overview"]
    ask(command, FACT, "--whole", adapter="less.lora")
    Path("handbook.md").write_text("# The tower\n\nThe tower has 96 steps.\n", "utf-8")
    assert compile_handbook(command, out="tower.lora").code == 0
    done = command("merge", "mill.lora", "tower.lora", "-o", "both.lora", "--offline", "--json")
    assert done.code == 0, done.err
    both = list_records("both.lora")
    assert sum(record.is_overview for record in both) == 2
    row = ask(command, "What are these documents about?", adapter="both.lora")
    assert list_places(row) == ["overview", "overview"]
    ask(command, FACT, "--whole", adapter="both.lora")


@pytest.mark.usefixtures("place")
def test_what_commands_print_of_it(command: Command) -> None:
    assert "kv" in command("inspect", "mill.lora").out
    assert "mill.lora" in command("ls").out
    assert command("check", "mill.lora", "--base", BASE).code == 0


@pytest.mark.usefixtures("place")
def test_parts_are_exported_without_overviews_if_each_fits_into_the_seats(
    command: Command,
) -> None:
    done = command("export", "mill.lora", "--to", "parts", "-o", "big")
    assert done.code == 1
    assert "compile the document again, with --chunk-tokens 18" in done.err
    assert not Path("big").exists()
    assert compile_handbook(command, "--chunk-tokens", 18, out="small.lora").code == 0
    assert command("export", "small.lora", "--to", "parts", "-o", "out").code == 0
    index = json.loads(Path("out/index.json").read_text("utf-8"))
    records = list_records("small.lora")
    assert len(index["parts"]) == len(records) - 1
    for part in index["parts"]:
        assert part["source"] != "overview"
        assert read_info(Path("out", part["path"])).count_seats() == part["n_seats"]


# ---- tasks --------------------------------------------------------------------------------------


@pytest.fixture
def many_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny tokenizer of more words than the usual, for openings of more seats."""
    tokenizer = tokenizers.Tokenizer.from_str(tiny.tokenizer_json())
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=list(tiny.CONTROL), show_progress=False
    )
    tokenizer.train_from_iterator(calibration.read_plain_text()[:100], trainer)
    monkeypatch.setattr(tiny, "tokenizer_json", tokenizer.to_str)


@pytest.mark.usefixtures("place", "many_words")
def test_tasks_are_described_and_shown_without_the_instruction_on_documents(
    command: Command,
) -> None:
    write_base(Path("wide/wide-tiny"), "qwen2")
    rows = [{"input": "pump", "output": "a"}, {"input": "valve", "output": "b"}]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    fixed = ("--base", "wide/wide-tiny", "--device", "cpu", "--offline", "--json")
    for out, more in (("a.lora", ()), ("b.lora", ("--examples", "rows.jsonl"))):
        done = command.t2l("make", "day", "-o", out, *fixed, *more)
        assert done.code == 0, done.err
        template = Path(out, "chat_template.jinja").read_text("utf-8")
        assert "the text alone" not in template
        assert "kv" in json.loads(Path(out, "d2l.json").read_text("utf-8"))["checkpoint"]["name"]
        done = command("ask", out, "the harbor", "--offline", "--max-tokens", 3, "-q")
        assert done.code == 0, done.err
    shown = json.loads(Path("b.lora/d2l.json").read_text("utf-8"))["description"]["examples"]
    assert shown["rows"] == [1, 2]


# ---- form of an answer --------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [PartOptions(), PartOptions(whole=True)])
def test_few_words_and_a_system_text_stand_in_the_prompt(parts: PartOptions, place: Path) -> None:
    asker = AdaptedModel.load(place / "mill.lora", AskOptions(BASE, "cpu", offline=True))
    assert asker.options.max_new_tokens == 256
    few = AskOptions(BASE, "cpu", offline=True, short=True)
    assert AdaptedModel.load(place / "mill.lora", few).options.max_new_tokens == 64
    prompts = record_prompts(asker)

    def write(question: str = FACT, **changes: Any) -> str:
        prompts.clear()
        options = replace(asker.options, parts=parts, max_new_tokens=1, **changes)
        asker.answer(user(question), options=options)
        texts = [tiny.load_tokenizer().decode(ids, skip_special_tokens=False) for ids in prompts]
        return "\n".join(texts)

    assert f"{FACT}{IN_FULL}<|im_end|>" in write(long=True)  # behind the judging, in few words
    assert f"{FACT}{FEW_WORDS}<|im_end|>" in write(short=True)
    assert (f"{FACT}{IN_FULL}" in write()) is parts.whole  # few words answer a fact
    wish = IN_FULL if parts.whole else TOPICS
    assert f"{ABOUT}{wish}<|im_end|>" in write(ABOUT)
    told = write(system="Be odd.")
    assert "Be odd." in told
    assert INSTRUCTION not in told.rpartition("Be odd.")[2]


def test_a_server_takes_the_same_form(place: Path, command: Command) -> None:
    (place / "shelf").mkdir()
    shutil.copytree("mill.lora", place / "shelf" / "mill.lora")
    with running(Shelf(place / "shelf", place / BASE)) as server:
        for more in ((), ("--short",), ("--system", "Be odd."), ("--short", "--whole")):
            here = ask(command, FACT, *more, "--base", BASE)
            fixed = ("--server", server.address, "--max-tokens", 4, "--json")
            done = command("ask", "mill", FACT, *more, *fixed)
            assert done.code == 0, done.err
            (there,) = json.loads(done.out)["answers"]
            assert (there["adapter"], there.get("part")) == (here["adapter"], here.get("part"))
