"""Documents say what is so: their console and Python blocks run here, their generated parts are
current, and what they name exists."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from typer.main import get_command

import d2l
from d2l.bases.models import BaseFiles, load_frozen
from d2l.commands import main as cli
from d2l.hypernets.registry import ALIASES, DEFAULT, DEFAULT_VARIABLE, TEXT_VARIABLE
from tests.commands.test_help import ROWS
from tests.conftest import find_or_skip
from tests.tools import generated_docs

ROOT = generated_docs.ROOT
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = {str(one.relative_to(ROOT)): one.read_text("utf-8") for one in generated_docs.DOCUMENTS}
#: What the front page may hold: it is read on a screen or two.
MAX_README_BYTES = 10_000
#: Documents whose blocks take more than some ten seconds on a quiet machine.
SLOW = {"README.md", "d2l/README.md", "d2l/commands/README.md"} | {
    f"examples/{folder}/README.md" for folder in ("editing", "fleet", "serving", "tasks")
}
#: The document that shows the default network; the others name theirs. Its base is large: only
#: `D2L_TEST_LARGE=1` compares what is printed, otherwise commands run with the smallest network.
ON_DEFAULT = "README.md"
LARGE = bool(os.environ.get("D2L_TEST_LARGE"))
VARIABLES = (DEFAULT_VARIABLE, TEXT_VARIABLE)
_EXPORT = re.compile(r"export (\w+)=(\S+)")
_FENCE = re.compile(r"^```((?:console|python)[^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: Seconds differ from run to run.
_SECONDS = re.compile(r"\d+\.\d+ s\b")
#: What work of more than 20 s says on stderr, which on a slow machine is more of it.
_PROGRESS = re.compile(
    r"^([a-z ]+|unpacking \S+, once, in MB): [\d,]+ of [\d,]+(, about [\d,hms ]+ left)?\n",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: `kind` is what stands behind its fence."""

    kind: str
    text: str


@dataclass(frozen=True)
class Step:
    """One command of a console block and what the document says it prints."""

    command: str
    output: str


def read_blocks(document: str) -> list[Block]:
    """All console and Python blocks, in their order."""
    return [Block(match[1], match[2]) for match in _FENCE.finditer(document)]


def read_steps(block: Block) -> list[Step]:
    """The commands of a console block with their output."""
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not parts[0], "a console block begins with a command"
    split = [part.partition("\n") for part in parts[1:]]
    return [Step(command, output) for command, _, output in split]


def mask(text: str) -> str:
    """The text without what may differ between machines."""
    return _SECONDS.sub("N s", _PROGRESS.sub("", text))


def run_command(command: str, folder: Path, exported: dict[str, str]) -> str:
    """What a command prints on both streams; it must succeed."""
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        # What earlier runs left in the cache must not show; a block that shows it asks for it.
        env=os.environ | {"PATH": binaries, "D2L_CACHE_MAX_SIZE": "0"} | exported,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}"
    return done.stdout


def run_python(code: str, folder: Path, exported: dict[str, str]) -> str:
    """What a program prints, without the hub."""
    (folder / "program.py").write_text(code, "utf-8")
    return run_command("HF_HUB_OFFLINE=1 python program.py", folder, exported)


def runnable() -> list[object]:
    """Names of the documents that have blocks to run."""
    kinds = {name: {block.kind for block in read_blocks(text)} for name, text in DOCUMENTS.items()}
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, found in kinds.items()
        if found & {"console", "python"}
    ]


@pytest.mark.parametrize("name", runnable())
def test_blocks_do_what_they_say(name: str, tmp_path: Path) -> None:
    """As a reader would: from top to bottom, in a folder with the examples and a manual.

    What a document exports holds for what follows, as in a reader's shell.
    """
    network, exported = "smollm2-135m", dict.fromkeys(VARIABLES, "the document names none")
    if name == ON_DEFAULT:
        exported = dict.fromkeys(VARIABLES, network)
        if LARGE:
            network = DEFAULT
            exported = dict.fromkeys(VARIABLES, "") | {"D2L_BASE_DTYPE": "bf16"}
    base = find_or_skip(ALIASES[network].base)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copy(ROOT / "examples" / "handbook.pdf", tmp_path / "manual.pdf")
    load_weights(base)
    for block in read_blocks(DOCUMENTS[name]):
        if block.kind == "python":
            check_program(block.text, run_python(block.text, tmp_path, exported))
        elif block.kind == "console":
            for step in read_steps(block):
                if setting := _EXPORT.fullmatch(step.command):
                    exported[setting[1]] = setting[2]
                    assert not step.output
                    continue
                printed = run_command(step.command, tmp_path, exported)
                if name != ON_DEFAULT or LARGE:
                    assert mask(printed) == mask(step.output), step.command
    for adapter in tmp_path.glob("*.lora"):
        assert (adapter / "adapter_model.safetensors").is_file()


def check_program(code: str, printed: str) -> None:
    """A program that asks prints the answer below what libraries say, and no prompt."""
    if "Which button starts the Orvane 40?" in code:
        assert "Which button" not in printed
        assert "<|im_start|>" not in printed
        assert printed.splitlines()[-1].strip()


def load_weights(files: BaseFiles) -> None:
    """Make sure that the base's folder has its weights, which are made when they are needed."""
    load_frozen(files, device="cpu", dtype=torch.float32, n_layers=1)


def test_the_documents_that_run_are_those_that_promise_to() -> None:
    names = {parameter.values[0] for parameter in runnable()}  # type: ignore[attr-defined]
    assert names >= {"README.md", "d2l/README.md", "d2l/commands/README.md"} | {
        f"examples/{folder}/README.md" for folder in ("serving", "editing", "tasks")
    }
    assert names >= SLOW


def test_blocks_that_do_not_run_here_need_a_gpu_a_download_or_make() -> None:
    for text in DOCUMENTS.values():
        for block in read_blocks(text):
            if block.kind == "console no-run":
                for step in read_steps(block):
                    reasons = ("make ", "--device cuda", "sakana/", "pip install", "bases fetch")
                    assert any(reason in step.command for reason in reasons), step.command


_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`((?:d2l|t2l) [^`|;&\n]+)")
_PROGRAM = re.compile(r"(?:^|[|;&(] *|^\$ )(?:\S*/)?((?:d2l|t2l) [^|;&)\n]+)", re.MULTILINE)


def list_command_lines(text: str) -> list[str]:
    """The command lines of a text: of fenced blocks of any kind, and of sentences that name some.

    What a list of changes calls gone is not there.
    """
    blocks = "".join(_FENCED.findall(text)).replace("\\\n", " ")
    sentences = re.sub("^- Gone: .*", "", text, flags=re.MULTILINE)
    return [*_PROGRAM.findall(blocks), *_SPAN.findall(sentences)]


def find_unknown(line: str) -> list[str]:
    """The words of a command line that its program does not know: a command, or options."""
    try:
        program, *words = shlex.split(line, comments=True)
    except ValueError:  # an apostrophe in a sentence
        program, *words = line.split()
    command = get_command(cli.app if program == "d2l" else cli.t2l_app)
    while words and isinstance(commands := getattr(command, "commands", None), Mapping):
        if words[0].startswith("-") or words[0].isupper():  # of the program, or any command
            break
        if words[0] not in commands:
            return [words[0]]
        command = commands[words.pop(0)]
    context = command.context_class(command)
    known = {name for param in command.get_params(context) for name in param.opts}
    known |= {name for param in command.get_params(context) for name in param.secondary_opts}
    words = words[: words.index("--")] if "--" in words else words
    given = [word.partition("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)]
    return [] if "COMMAND" in words else [word for word in given if word not in known]


@pytest.mark.parametrize("name", [*DOCUMENTS, "code"])
def test_commands_and_options_that_are_named_exist(name: str) -> None:
    """Also in blocks that nothing runs, and in the docstrings and messages of the code."""
    paths = [ROOT / name] if name in DOCUMENTS else [*(ROOT / "d2l").rglob("*.py")]
    text = "\n".join(path.read_text("utf-8") for path in paths)
    if name == "code":
        text += "".join(f"`{row.example}`\n" for row in ROWS.values())
    lines = list_command_lines(text)
    assert name not in ("README.md", "code") or len(lines) > 10
    assert not {line: unknown for line in lines if (unknown := find_unknown(line))}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_is_of_a_known_kind(name: str) -> None:
    kinds = {block.kind for block in read_blocks(DOCUMENTS[name])}
    assert kinds <= {"console", "console no-run", "python"}


def test_generated_parts_are_current() -> None:
    together = "".join(DOCUMENTS.values())
    for name in generated_docs.SECTIONS:
        assert f"<!-- generated: {name} -->" in together
    if stale := generated_docs.list_stale():
        pytest.fail(f"stale, run `make docs`: {', '.join(map(str, stale))}")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_and_headings_that_are_linked_exist(name: str) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", DOCUMENTS[name]):
        file, _, heading = link.partition("#")
        target = (ROOT / name).parent / file if file else ROOT / name
        assert target.exists(), link
        assert not heading or heading in list_anchors(target.read_text("utf-8")), link


def list_anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as they are made on GitHub."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_document_is_linked_from_the_front_page_or_from_one_that_is() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop().resolve()
        if path not in seen and path.suffix == ".md":
            seen.add(path)
            links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text("utf-8"))
            waiting += [path.parent / link for link in links]
    assert seen == set(generated_docs.DOCUMENTS)


def test_the_front_page_is_short_and_begins_with_the_two_commands() -> None:
    assert len(README.encode()) <= MAX_README_BYTES
    first, second = (README.index(f"$ {command}") for command in ("make demo", "make test"))
    assert first < second < README.index("## ")


def test_the_way_of_a_document_names_functions_that_exist() -> None:
    text = DOCUMENTS["d2l/README.md"]
    names = re.findall(r"`([\w/]+\.py)`\s`(\w+)`", text)
    assert len(names) >= 12
    for file, name in names:
        tree = ast.parse((ROOT / "d2l" / file).read_text("utf-8"))
        kinds = ast.FunctionDef | ast.ClassDef
        defined = {node.name for node in tree.body if isinstance(node, kinds)}
        assert name in defined | imported(tree), f"{file}: {name}"


def imported(tree: ast.Module) -> set[str]:
    """Names that a module takes from others."""
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in nodes for alias in node.names}


def test_the_version_is_the_newest_heading_of_changes() -> None:
    changes = README[README.index("## Changes") :]
    versions = re.findall(r"^### (\S+)$", changes, re.MULTILINE)
    assert versions[0] == d2l.__version__
    assert len(versions) == 1
