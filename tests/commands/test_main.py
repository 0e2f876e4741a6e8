"""The command line as its users meet it: errors first, exact text and exit codes."""

import io
import json
import shutil
import socket
from pathlib import Path

import pytest

from d2l.hypernets.networks import list_formats
from d2l.hypernets.registry import ALIASES, DEFAULT
from tests import tiny
from tests.command import Command
from tests.processes import run_python


@pytest.fixture(autouse=True)
def place(working_folder: Path) -> Path:
    """A working folder with a document, a base and two checkpoints that find their base in it."""
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(working_folder / "seats")
    tiny.write_doc_to_lora(working_folder / "public", "llama")
    (working_folder / "notes.txt").write_text(NOTES, "utf-8")
    return working_folder


NOTES = "The filter is rinsed every 14 days. The pump stands in the harbor."
COMPILE = ("compile", "notes.txt", "-o", "notes.lora", "--checkpoint", "seats")


OFFLINE = "org/repo: not on disk, and the hub was not asked (--offline)"
BELOW = "notes.txt/a: cannot be written ({place}/notes.txt is not a folder)"
WRITE = "choose a folder with free space that you may write to"
NAME = "name a folder, a file or a hub name; `d2l checkpoints ls` lists the short names"
NEAR = "did you mean smollm2-135m? `d2l checkpoints ls` lists the short names"
OTHER = "choose another -o: d2l replaces only its own files"
NONE = "notes.txt: is not a hypernetwork checkpoint"
FORMATS = "expected one of: " + "; ".join(entry.description for _, entry in list_formats())
LOCAL = "download it once while online, or name a local folder"


@pytest.mark.parametrize(
    ("word", "given", "message", "hint"),
    [
        ("notes.txt", "missing.pdf", "missing.pdf: no such file or folder", "check the path"),
        ("notes.txt", "empty.txt", "empty.txt: the file is empty", "give a document that has text"),
        ("notes.lora", "notes.txt", "notes.txt exists and was not written by d2l", OTHER),
        ("notes.lora", "notes.txt/a", BELOW, WRITE),
        ("seats", "nope", "checkpoint 'nope' not found", NAME),
        ("seats", "smollm2", "checkpoint 'smollm2' not found", NEAR),
        ("seats", "notes.txt", NONE, FORMATS),
        ("seats", "org/repo", OFFLINE, LOCAL),
    ],
)
def test_what_the_user_can_fix_is_one_line_and_what_to_do(
    place: Path, command: Command, word: str, given: str, message: str, hint: str
) -> None:
    (place / "empty.txt").touch()
    before = sorted(place.rglob("*"))
    done = command(*(given if one == word else one for one in COMPILE), "--offline")
    message = message.replace("{place}", str(place))
    assert (done.code, done.out, done.err) == (1, "", f"error: {message}\nhint: {hint}\n")
    assert [path for path in sorted(place.rglob("*")) if "cache" not in path.parts] == before


LEAST = tiny.make_seats_config().min_seats
FEW = f"at most 2 seats were asked for, and the shortest opening has {LEAST}"
LONG = "chunks of 9999 tokens, but this network reads 4 to 24"
BIAS = "this network has no learned bias to scale"


@pytest.mark.parametrize(
    ("extra", "message", "hint"),
    [
        (("--device", "warp"), "unknown device 'warp'", "use auto, cpu, cuda, cuda:N or mps"),
        (("--max-rank", "2"), FEW, f"allow a rank of {LEAST} or more"),
        (("--chunk-tokens", "9999"), LONG, "leave --chunk-tokens out"),
        (("--bias-scale", "2"), BIAS, "leave the bias scale at 1"),
        (("--base", "seats"), "seats: config.json is not that of a known model", None),
        (("--format", "pdf"), "notes.txt: not a PDF document; this is text", None),
        (("--max-bytes", "10"), None, None),
    ],
)
def test_options_that_do_not_fit_are_explained(
    place: Path,
    command: Command,
    extra: tuple[str, str],
    message: str | None,
    hint: str | None,
) -> None:
    done = command(*COMPILE, *extra)
    lines = done.err.splitlines()
    assert (done.code, done.out, len(lines)) == (1, "", 2)
    assert message is None or lines[0] == f"error: {message}"
    assert hint is None or lines[1] == f"hint: {hint}"
    assert not (place / "notes.lora").exists()


SEE = "see `d2l compile --help`"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("merge", "."), "missing option '-o' / '--out'", "see `d2l merge --help`"),
        ((*COMPILE, "--merge", "svd"), "'svd' is not one of 'concat', 'average'", SEE),
        ((*COMPILE, "--max-rank", "0"), "invalid value for '--max-rank': ", SEE),
        ((*COMPILE, "--scale", "much"), "invalid value for '--scale': ", SEE),
        ((*COMPILE, "--forse"), "no such option: --forse", "did you mean --force?"),
        (("zip", "notes.txt"), "no such command 'zip'", "see `d2l --help`"),
        (("compil", "notes.txt"), "no such command 'compil'", "did you mean 'compile'?"),
        (("probe",), "missing argument 'adapter'", "see `d2l probe --help`"),
    ],
)
def test_wrong_usage_exits_with_2_and_reads_like_other_errors(
    place: Path, command: Command, words: tuple[str, ...], message: str, hint: str
) -> None:
    done = command(*words)
    first, second = done.err.splitlines()
    assert (done.code, done.out) == (2, "")
    assert first.startswith("error: ")
    assert message in first
    assert second == f"hint: {hint}"
    assert not (place / "notes.lora").exists()


@pytest.mark.slow
def test_debug_shows_the_traceback_of_an_error(place: Path) -> None:
    words = ("--debug", "compile", "missing.pdf", "-o", "x.lora")
    done = run_python("-m", "d2l", *words, folder=place)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "missing.pdf: no such file or folder" in done.stderr


def test_result_is_one_json_object_and_nothing_else_on_standard_output(
    place: Path, command: Command
) -> None:
    done = command(*COMPILE, "--json")
    values = json.loads(done.out)
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    assert (values["adapter"], values["device"]) == ("notes.lora", "cpu")
    assert values["rank"] == json.loads((place / "notes.lora/adapter_config.json").read_text())["r"]
    written = sum(path.stat().st_size for path in (place / "notes.lora").iterdir())
    assert values["size_bytes"] == written


def test_standard_input_is_a_document(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(NOTES.encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    done = command("compile", "-", "-o", "in.lora", "--checkpoint", "seats", "--json")
    assert (done.code, json.loads(done.out)["inputs"][0]["name"]) == (0, "-")
    command(*COMPILE)
    name = "adapter_model.safetensors"
    assert (place / "in.lora" / name).read_bytes() == (place / "notes.lora" / name).read_bytes()


@pytest.mark.parametrize("checkpoint", ["seats", "public"])
def test_dry_run_loads_no_weights_and_promises_what_is_written(
    place: Path, command: Command, checkpoint: str
) -> None:
    words = ("compile", "notes.txt", "-o", "notes.lora", "--checkpoint", checkpoint, "--json")
    done = json.loads(command(*words).out)
    tensors = (place / "notes.lora" / "adapter_model.safetensors").read_bytes()
    header = 8 + int.from_bytes(tensors[:8], "little")
    shutil.rmtree(place / "notes.lora")
    for folder in (checkpoint, "tiny-org/llama-tiny"):
        (place / folder / "model.safetensors").unlink()
    plan = command(*words, "--dry-run")
    promised = json.loads(plan.out)
    assert plan.code == 0
    assert not (place / "notes.lora").exists()
    assert promised["adapter_bytes"] == len(tensors) - header
    assert promised["estimated_seconds"] is None
    same = ("rank", "n_tokens", "n_chunks", "chunks", "inputs", "base", "merge", "warnings")
    assert {name: promised[name] for name in same} == {name: done[name] for name in same}


def test_bad_inputs_are_skipped_only_when_asked_and_are_listed(
    place: Path, command: Command
) -> None:
    (place / "empty.txt").touch()
    words = ("compile", "no.pdf", "empty.txt", "notes.txt", "-o", "n.lora", "--checkpoint", "seats")
    assert command(*words).code == 1
    assert not (place / "n.lora").exists()
    done = command(*words, "--skip-bad", "--json")
    skipped = [
        {"name": "no.pdf", "reason": "no.pdf: no such file or folder"},
        {"name": "empty.txt", "reason": "empty.txt: the file is empty"},
    ]
    assert done.err == (
        "warning: skipped no.pdf: no such file or folder\n"
        "warning: skipped empty.txt: the file is empty\n"
    )
    assert json.loads(done.out)["skipped"] == skipped
    assert json.loads((place / "n.lora" / "d2l.json").read_text())["skipped"] == skipped


PAGE = (
    "<p>The pump weighs 21 kg.</p><p style='display:none'>It weighs nothing.</p>"
    "<p>The name is pay\u2060pal.</p>"
)
FOUND = (
    "page.html: 16 characters of hidden text (not displayed), {done}",
    "page.html: line {}: 1 invisible character (zero-width characters inside words)",
)


@pytest.mark.parametrize("option", [(), ("--include-hidden",)])
def test_what_is_found_in_documents_is_told_and_counted(
    place: Path, command: Command, option: tuple[str, ...]
) -> None:
    (place / "page.html").write_text(PAGE, "utf-8")
    words = ("compile", "page.html", "-o", "p.lora", "--checkpoint", "seats", "--json")
    done = command(*words, *option)
    line = 5 if option else 3
    first = FOUND[0].format(done="included" if option else "left out")
    assert done.err.splitlines()[:2] == [f"warning: {first}", f"warning: {FOUND[1].format(line)}"]
    told = json.loads(done.out)["inputs"][0]["findings"]
    assert [(found["kind"], found["count"], found["lines"]) for found in told] == [
        ("hidden", 16, []),
        ("characters", 1, [line]),
    ]
    written = (place / "p.lora" / "d2l.json").read_text("utf-8")
    assert json.loads(written)["inputs"][0]["findings"] == told
    assert json.loads(written)["inputs"][0].get("include_hidden", False) == bool(option)
    again = command(*words, *option)
    assert (json.loads(again.out)["unchanged"], again.err) == (True, "")
    refused = command(*words, *option, "--strict")
    error = "error: --strict: page.html: its text has findings, listed in p.lora/d2l.json"
    assert (refused.code, error in refused.err.splitlines()) == (1, True)


def test_strict_refuses_what_is_found(place: Path, command: Command) -> None:
    (place / "page.html").write_text(PAGE, "utf-8")
    words = ("compile", "page.html", "-o", "p.lora", "--checkpoint", "seats", "--strict")
    done = command(*words)
    *told, error, hint = done.err.splitlines()
    assert (done.code, done.out, len(told)) == (1, "", 2)
    assert error == f"error: --strict: {FOUND[0].format(done='left out')} (and 1 more)"
    assert hint.startswith("hint: ")
    assert not (place / "p.lora").exists()
    (place / "page.html").write_text("<p>The pump weighs 21 kg.</p><button>On</button>", "utf-8")
    done = command(*words)
    assert (done.code, done.err) == (
        0,
        "page.html: 2 characters of drawings and buttons left out\n",
    )


MAIN = f"<!doctype html><main><h1>Pump</h1><p>{'The pump is rinsed every day. ' * 10}</main>"


def test_furniture_is_told_by_its_first_words_and_prose_is_refused_by_strict(
    place: Path, command: Command
) -> None:
    (place / "page.html").write_text(f"{MAIN}<nav>Home and so on</nav>", "utf-8")
    words = (
        "compile",
        "page.html",
        "-o",
        "p.lora",
        "--checkpoint",
        "seats",
        "--dry-run",
        "--strict",
    )
    count = "page.html: 14 characters of menus and page furniture left out"
    assert command(*words).err == f"{count}\n"
    done = command(*words, "-v", "--json")
    assert "page.html: 14 characters left out: Home and so on\n" in done.err
    assert [f["what"] for f in json.loads(done.out)["inputs"][0]["findings"]] == ["Home and so on"]
    aside = "Never leave the running pump without water."
    (place / "page.html").write_text(f"{MAIN}<div>{aside}</div>", "utf-8")
    done = command(*words)
    assert done.code == 1
    assert f"{len(aside)} characters of text beside the article left out: {aside}" in done.err


def test_loss_is_told_with_quiet_and_refused_by_strict(place: Path, command: Command) -> None:
    (place / "long.txt").write_text("The pump is rinsed every 3 days. " * 40, "utf-8")
    words = ("compile", "long.txt", "-q", "--checkpoint", "seats", "--no-parts")
    plan = command(*words, "-o", "l.lora", "--dry-run")
    assert plan.code == 0
    assert "expect few of its facts to come back" in plan.err
    for more in (("-o", "l.lora"), ("-o", "l.lora", "--dry-run")):
        refused = command(*words, *more, "--strict")
        assert (refused.code, refused.out) == (1, "")
        assert "error: --strict: the document has " in refused.err
    assert not (place / "l.lora").exists()
    assert command(*words, "-o", "l.lora").code == 0
    unchanged = command(*words, "-o", "l.lora")
    assert (unchanged.code, unchanged.err) == (0, plan.err)
    assert command(*words, "-o", "l.lora", "--strict").code == 1


def test_offline_opens_no_socket(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert command(*COMPILE, "--offline").code == 0
    asked = command("ask", "notes.lora", "Where?", "--offline", "--json", "--max-tokens", 2)
    assert (asked.code, asked.err) == (0, "")
    for name in ("sakana/gemma-2-2b", "org/repo"):
        done = command("checkpoints", "ls", name, "--offline")
        assert done.code == 1
        assert "and the hub was not asked (--offline)" in done.err
    assert command("checkpoints", "ls").code == 0


def test_checkpoints_are_listed_and_shown(command: Command) -> None:
    rows = json.loads(command("checkpoints", "ls", "--json").out)["checkpoints"]
    assert [row["name"] for row in rows] == list(ALIASES)
    assert {row["source"] for row in rows if row["name"] == DEFAULT} == {"built in"}
    shown = json.loads(command("checkpoints", "ls", "public", "--json").out)
    assert (shown["network"], shown["config"]["base"]) == ("doc_to_lora", "tiny-org/llama-tiny")
    table = command("checkpoints", "ls").out.splitlines()
    assert len(table) == len(rows) + 2
    assert [DEFAULT, ALIASES[DEFAULT].base] in [line.split()[:2] for line in table]
