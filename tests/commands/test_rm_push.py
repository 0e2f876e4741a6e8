"""`d2l rm` and `d2l push`."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from d2l.files import leftovers
from tests.command import Command
from tests.compiled import Compile, compile_tiny, make_document
from tests.files.hub_server import COMMIT, REPO, Hub, close_sessions, serve_hub

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(name="folder", autouse=True)
def working_place(compiled: Compile, working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two adapters, one of them in the user's own folder."""
    for place in ("book.lora", "home/old.lora"):
        shutil.copytree(compiled("llama").adapter, working_folder / place)
    monkeypatch.setenv("D2L_ADAPTERS", "home")
    return working_folder


# ---- rm -----------------------------------------------------------------------------------------


def test_adapters_are_removed_by_their_names(folder: Path, command: Command) -> None:
    size = sum(path.stat().st_size for path in Path("book.lora").iterdir())
    done = command("rm", "book", "old", "./book.lora", "--yes", "--json")
    assert json.loads(done.out) == {
        "removed": ["book.lora", str(Path("home/old.lora"))],
        "freed_bytes": 2 * size,
    }
    assert list(folder.iterdir()) == [folder / "home"]
    assert not list(Path("home").iterdir())


def test_people_are_asked_and_programs_must_say_yes(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command("rm", "book")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: d2l rm asks first, and stdin is no terminal\nhint: add --yes\n"
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []
    answers = [False, True]
    monkeypatch.setattr("typer.confirm", lambda text, **_: asked.append(text) or answers.pop(0))
    assert command("rm", "book").code == 1
    assert (folder / "book.lora").exists()
    assert command("rm", "book").code == 0
    assert [text.partition(" (")[0] for text in asked] == ["Remove book.lora"] * 2
    assert not (folder / "book.lora").exists()


def test_only_what_d2l_wrote_is_removed_and_nothing_if_one_is_not(
    folder: Path, command: Command
) -> None:
    (folder / "docs").mkdir()
    Path("home/old.lora/notes.txt").write_text("mine")
    Path("link.lora").symlink_to("book.lora")
    for name, reason in (
        ("docs", "docs exists and was not written by d2l"),
        ("old", f"{Path('home/old.lora')} holds files that d2l did not write: notes.txt"),
        ("link", "link.lora exists and was not written by d2l"),
        ("org/repo", "org/repo: there is no such adapter"),
        ("../missing", "../missing: there is no such adapter"),
        ("bok", "bok: no such adapter in this folder or in home (D2L_ADAPTERS)"),
    ):
        done = command("rm", "book", name, "--yes")
        assert (done.code, done.err.splitlines()[0]) == (1, f"error: {reason}")
    assert (folder / "book.lora").exists()


def test_an_adapter_whose_removal_is_interrupted_is_gone_whole(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = leftovers.remove

    def interrupt(path: Path) -> None:
        remove(path)
        raise KeyboardInterrupt

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(leftovers, "remove", interrupt)
    monkeypatch.setattr("d2l.commands.main.leave", leave)
    assert command("rm", "book", "--yes").code == 130
    assert sorted(path.name for path in folder.iterdir()) == ["home"]


# ---- push ---------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    with serve_hub({}, tmp_path / "hub", monkeypatch) as server:
        yield server


def read_card(hub: Hub) -> str:
    files = {row["value"]["path"]: row["value"]["content"] for row in hub.pushed[2:]}
    return base64.b64decode(files["README.md"]).decode()


def test_an_adapter_is_uploaded_with_a_card_that_the_hub_reads(hub: Hub, command: Command) -> None:
    done = command("push", "book", REPO, "--private", "--license", "cc-by-4.0")
    assert done.code == 0
    assert done.out.endswith(f"/{REPO}/commit/{COMMIT}\n")
    assert done.err == (
        f"warning: whoever can read {REPO} can read the document: its content is in the weights\n"
    )
    made = hub.pushed[0]["create"]
    assert made.get("visibility") == "private" or made.get("private") is True
    _, head, text = read_card(hub).split("---\n", 2)
    assert yaml.safe_load(head) == {
        "base_model": "tiny-org/llama-tiny",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "license": "cc-by-4.0",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "peft", "d2l"],
    }
    assert text == Path("book.lora/README.md").read_text("utf-8").split("---\n", 2)[2].replace(
        'adapter = "."', f'adapter = "{REPO}"'
    )
    shown = json.loads(command("push", "book", REPO, "--json", "-q").out)
    assert shown["repo"] == REPO


def test_a_card_of_another_tool_gets_the_license_in_its_place(hub: Hub, command: Command) -> None:
    card = Path("book.lora/README.md")
    for before, after in (
        ("---\nlicense: mit\ntags:\n- x\n---\nText", '---\ntags:\n- x\nlicense: "gpl"\n---\nText'),
        ("Text\n---\n", '---\nlicense: "gpl"\n---\n\nText\n---\n'),
    ):
        card.write_text(before)
        hub.pushed.clear()
        assert command("push", "book", REPO, "--license", "gpl").code == 0
        assert read_card(hub) == after


def test_text_that_goes_along_is_named_before(hub: Hub, folder: Path, command: Command) -> None:
    done = compile_tiny(folder / "tiny", "seats", make_document(), parts=True)
    hub.push_error = 403
    refused = command("push", done.adapter, REPO)
    assert (refused.code, refused.err.splitlines()) == (
        1,
        [
            f"warning: whoever can read {REPO} can read the document: parts.json holds its text",
            f"error: {REPO}: the hub does not let you write there",
            "hint: log in with a token that may write: `hf auth login`, or set HF_TOKEN",
        ],
    )


def test_what_hinders_an_upload_is_one_line_and_what_to_do(
    hub: Hub, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(repo: str = REPO) -> list[str]:
        done = command("push", "book", repo)
        assert (done.code, done.out) == (1, "")
        return done.err.splitlines()[1:]

    assert refuse("book") == ["error: book: is no name on the hub", "hint: the form is ORG/REPO"]
    hub.card_error = '"license" must be one of mit'
    assert refuse() == [
        f"error: {REPO}: the hub refuses the card: Invalid metadata in README.md. "
        '- "license" must be one of mit',
        "hint: correct the license, or README.md",
    ]
    hub.push_error = 500
    again = "hint: check the network and HF_HUB_OFFLINE, and push again"
    assert refuse()[1] == again
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    close_sessions()
    assert refuse() == [
        f"error: {REPO}: the hub cannot be reached (OfflineModeIsEnabled)",
        again,
    ]
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert refuse() == [
        "error: this machine has no token for the hub",
        "hint: log in with a token that may write: `hf auth login`, or set HF_TOKEN",
    ]
