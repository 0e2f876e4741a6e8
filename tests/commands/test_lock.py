"""`d2l.lock`: what --locked finds, and a second run that has nothing to do."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from d2l.adapters.info import LOCK
from tests import tiny
from tests.command import Command, Outcome, make_once
from tests.compiled import read_files, write_files
from tests.processes import run_python

pytestmark = pytest.mark.usefixtures("one_thread")

NOTES = "The filter is rinsed every 14 days. The pump stands in the harbor."
COMPILE = ("compile", "notes.txt", "-o", "notes.lora", "--checkpoint", "checkpoint", "--offline")
COMPILE = (*COMPILE, "--device", "cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lock") / "made"


@pytest.fixture(autouse=True)
def place(one_thread: None, made: Path, working_folder: Path, command: Command) -> Path:  # noqa: ARG001
    """A folder with an adapter, compiled on one thread as later runs are: the cache asks that."""

    def make() -> None:
        write_files(working_folder, "seats")
        (working_folder / "notes.txt").write_text(NOTES, "utf-8")
        done = command(*COMPILE, *base())
        assert done.code == 0, done.err

    make_once(made, working_folder, make)
    return working_folder


def base() -> tuple[str, str]:
    return ("--base", tiny.base_name("llama"))


def alter_tensors(path: Path) -> None:
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + 0.01
    save_file(tensors, path, {"format": "pt"})


def test_a_lock_has_the_digests_of_all_that_went_in_and_came_out(place: Path) -> None:
    lock = json.loads((place / "notes.lora" / LOCK).read_text("utf-8"))
    made = json.loads((place / "notes.lora" / "d2l.json").read_text("utf-8"))
    assert lock["inputs"][0]["sha256"] == made["inputs"][0]["sha256"]
    assert lock["base"]["sha256"] == made["base"]["sha256"]
    assert made["checkpoint"]["sha256"] in lock["network"]["files"].values()
    assert len(lock["chunks"]) == len(made["chunks"])
    names = {path.name for path in (place / "notes.lora").iterdir()}
    assert set(lock["files"]) == names - {LOCK}
    assert str(place) not in json.dumps(lock)


def change_input(place: Path) -> None:
    (place / "notes.txt").write_text(NOTES.replace("14", "15"), "utf-8")


def change_network(place: Path) -> None:
    alter_tensors(place / "checkpoint" / "model.safetensors")


def change_statistics(place: Path) -> None:
    alter_tensors(place / "checkpoint" / "statistics.safetensors")


def change_base(place: Path) -> None:
    alter_tensors(place / tiny.base_name("llama") / "model.safetensors")


def change_tokenizer(place: Path) -> None:
    path = place / tiny.base_name("llama") / "tokenizer.json"
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")


def change_adapter(place: Path) -> None:
    """One bit, with size and time as before."""
    path = place / "notes.lora" / "adapter_model.safetensors"
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def add_file(place: Path) -> None:
    (place / "notes.lora" / "notes.md").write_text("mine", "utf-8")


def remove_card(place: Path) -> None:
    (place / "notes.lora" / "README.md").unlink()


DRIFTS: list[tuple[Callable[[Path], None], str]] = [
    (change_input, "input notes.txt changed"),
    (change_network, "network checkpoint changed (model.safetensors)"),
    (change_statistics, "network checkpoint changed (statistics.safetensors)"),
    (change_base, "base tiny/seats-base changed"),
    (change_tokenizer, "base tiny/seats-base changed"),
    (change_adapter, "file adapter_model.safetensors was altered"),
    (add_file, "file notes.md was added"),
    (remove_card, "file README.md is missing"),
]


@pytest.mark.parametrize(("drift", "said"), DRIFTS)
def test_locked_finds_each_drift_and_writes_nothing(
    drift: Callable[[Path], None], said: str, place: Path, command: Command
) -> None:
    assert command(*COMPILE, *base(), "--locked").code == 0
    drift(place)
    before = read_files(place / "notes.lora")
    done = command(*COMPILE, *base(), "--locked")
    name = json.loads((place / "notes.lora" / LOCK).read_text("utf-8"))["base"]["name"]
    said = said.replace("tiny/seats-base", name)
    expected = f"error: --locked: notes.lora has drifted from its lock: {said}"
    assert (done.code, done.err.splitlines()[0]) == (1, expected)
    assert read_files(place / "notes.lora") == before
    (place / "notes.lora" / "notes.md").unlink(missing_ok=True)  # which --force would not replace
    forced = ("--force",) if "--force" in done.err.splitlines()[1] else ()
    assert command(*COMPILE, *base(), *forced).code == 0  # what the hint says can be done


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scale", "0.5"), "option scale 1.0 → 0.5"),
        (("--merge", "average"), "option merge concat → average"),
        (("--dtype", "fp32"), "option dtype bf16 → fp32"),
        (("--tokens-per-seat", "2"), "option tokens_per_seat None → 2"),
        (("--chunking", "stable"), "option chunking usual → stable"),
        (("--include-hidden",), "option include_hidden False → True"),
    ],
)
def test_locked_finds_each_changed_option(
    words: tuple[str, ...], said: str, command: Command
) -> None:
    done = command(*COMPILE, *base(), *words, "--locked")
    assert done.code == 1
    assert done.err.splitlines()[0].endswith(f": {said}")


def test_locked_needs_a_lock(place: Path, command: Command) -> None:
    (place / "notes.lora" / LOCK).unlink()
    done = command(*COMPILE, *base(), "--locked")
    expected = "error: --locked: notes.lora has no d2l.lock"
    assert (done.code, done.err.splitlines()[0]) == (1, expected)


def test_a_damaged_lock_is_told(place: Path, command: Command) -> None:
    path = place / "notes.lora" / LOCK
    for text in ("{", "[]", '{"format": 9}', '{"format": 1, "files": {}}'):
        path.write_text(text, "utf-8")
        done = command(*COMPILE, *base())
        assert done.code == 1
        assert "d2l.lock" in done.err.splitlines()[0]


def test_a_changed_document_is_compiled_again_where_it_was(place: Path, command: Command) -> None:
    before = read_files(place / "notes.lora")
    change_input(place)
    assert command(*COMPILE, *base()).code == 0
    assert read_files(place / "notes.lora") != before
    assert command(*COMPILE, *base(), "--locked").code == 0


@pytest.mark.parametrize(
    ("drift", "message"),
    [
        (change_adapter, "exists already"),
        (add_file, "holds files that d2l did not write: notes.md"),
    ],
)
def test_what_was_altered_by_hand_is_not_replaced_without_force(
    drift: Callable[[Path], None], message: str, place: Path, command: Command
) -> None:
    drift(place)
    done = command(*COMPILE, *base())
    assert (done.code, done.err.splitlines()[0]) == (1, f"error: notes.lora {message}")


def test_other_options_and_other_documents_replace_nothing_without_force(
    place: Path, command: Command
) -> None:
    (place / "more.txt").write_text(NOTES, "utf-8")
    assert command(*COMPILE, *base(), "--scale", "0.5").code == 1
    other = tuple(word.replace("notes.txt", "more.txt") for word in COMPILE)
    assert command(*other, *base()).code == 1


def run(place: Path, *words: str, modules: bool = False) -> Outcome:
    """A command in a process of its own; with `modules` it says which heavy ones were imported."""
    code = (
        "import sys\nfrom d2l.commands.main import main\ntry:\n    main()\nfinally:\n"
        "    print(sorted({'torch', 'transformers'} & sys.modules.keys()))"
    )
    done = run_python(*(("-c", code) if modules else ("-m", "d2l")), *words, folder=place)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("extra", [(), ("--locked",)])
def test_a_second_run_imports_no_torch_and_touches_nothing(
    extra: tuple[str, ...], place: Path
) -> None:
    before = {p: p.stat().st_mtime_ns for p in (place / "notes.lora").iterdir()}
    done = run(place, *COMPILE, *base(), *extra, modules=True)
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "notes.lora",
        "unchanged   inputs, network, base and options are those of notes.lora/d2l.lock",
        "[]",
    ]
    assert {p: p.stat().st_mtime_ns for p in (place / "notes.lora").iterdir()} == before


def test_a_lock_holds_in_its_own_precision(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that computes faster in another."""
    monkeypatch.setenv("D2L_BASE_DTYPE", "bf16")
    assert command(*COMPILE, *base(), "--locked").code == 0
    assert command(*COMPILE, *base(), "--locked", "--base-dtype", "fp32").code == 0
    done = command(*COMPILE, *base(), "--locked", "--base-dtype", "bf16")
    assert "option base_dtype fp32 → bf16" in done.err
    change_input(place)
    assert command(*COMPILE, *base()).code == 0
    assert read_precision(place) == ["fp32", "fp32"]
    done = command(*COMPILE, *base(), "--base-dtype", "bf16")
    assert "exists already" in done.err
    assert command(*COMPILE, *base(), "--force").code == 0
    assert read_precision(place) == ["bf16", "bf16"]
    assert command(*COMPILE, *base(), "--locked").code == 0


def read_precision(place: Path) -> list[str]:
    """The base's precision by the lock, and by the record."""
    texts = [(place / "notes.lora" / name).read_text("utf-8") for name in (LOCK, "d2l.json")]
    lock, record = map(json.loads, texts)
    return [lock["base_dtype"], record["options"]["base_dtype"]]


@pytest.mark.slow
def test_a_second_run_takes_about_as_long_as_inspect(place: Path) -> None:
    """At most 1.5 times the processor's time, the best of several: other work disturbs."""
    best = {"compile": float("inf"), "inspect": float("inf")}
    for _ in range(4):
        for name, words in (
            ("compile", (*COMPILE, *base())),
            ("inspect", ("inspect", "notes.lora")),
        ):
            start = sum(os.times()[2:4])  # of children
            assert run(place, *words).code == 0
            best[name] = min(best[name], sum(os.times()[2:4]) - start)
    assert best["compile"] <= 1.5 * best["inspect"], best


def test_the_second_run_counts_what_the_cache_held(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command(*COMPILE, *base(), "--force")
    assert done.out.splitlines()[-1] == "cache       1 chunk: 1 cached, 0 read"
    monkeypatch.setenv("D2L_CACHE_MAX_SIZE", "0")
    done = command(*COMPILE, *base(), "--force", "--json")
    assert (json.loads(done.out)["n_cached"], json.loads(done.out)["n_read"]) == (0, 1)


def test_the_cache_is_listed_pruned_and_emptied(place: Path, command: Command) -> None:
    values = json.loads(command("cache", "ls", "--json").out)
    assert values["cache"] == str(place / "cache")
    rows = values["rooms"]
    assert [(row["kind"], row["entries"]) for row in rows] == [("parts", 1), ("assembled", 1)]
    shown = command("cache", "ls").out.splitlines()
    assert shown[0] == str(place / "cache")
    assert "parts" in "".join(shown)
    assert command("cache", "prune").out == "removed 0 entries, 0.0 MB\n"
    assert command("cache", "prune", "--max-size", "much").code == 1
    assert json.loads(command("cache", "prune", "--max-size", "0", "--json").out)["removed"] == 2
    assert command("cache", "prune", "--all", "--max-size", "0").code == 2
    assert command("cache", "prune", "--all").out.startswith("removed ")
    assert not (place / "cache").exists()


def test_a_lock_names_no_folder_and_holds_for_paths_of_any_form(
    place: Path, command: Command
) -> None:
    words = ("--checkpoint", place / "checkpoint", "--offline", "--device", "cpu", "--skip-bad")
    (place / "bad").mkdir()
    (place / "bad" / "notes.txt").write_bytes(b"")  # called like the good one
    inputs = (place / "notes.txt", place / "bad" / "notes.txt")
    ordered = ("compile", *inputs, "-o", "other.lora", *words, *base())
    assert command(*ordered).code == 0
    text = (place / "other.lora" / LOCK).read_text("utf-8")
    assert str(place) not in text
    assert [row["name"] for row in json.loads(text)["inputs"]] == ["notes.txt"]
    assert command(*ordered, "--locked").code == 0
    change_input(place)
    assert "input" in command(*ordered, "--locked").err
    kept = command(*ordered, "--keep-paths", "--force")
    assert kept.code == 0
    assert str(place) in (place / "other.lora" / LOCK).read_text("utf-8")
    assert command(*ordered, "--keep-paths", "--locked").code == 0


def test_another_text_of_standard_input_replaces_an_adapter_only_by_force(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("compile", "-", "-o", "in.lora", *COMPILE[4:], *base())
    for text, more, code in ((b"One.", (), 0), (b"Two.", (), 1), (b"Two.", ("--force",), 0)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
        before = read_files(Path("in.lora")) if Path("in.lora").exists() else {}
        done = command(*words, *more)
        assert done.code == code
        assert (read_files(Path("in.lora")) == before) == bool(code)
