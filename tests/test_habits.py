"""Habits are the same everywhere: before a commit, in `make check`, and in what is installed."""

import ast
import re
import tomllib
from pathlib import Path

import yaml

from d2l.bases.catalog import BY_ALIAS
from d2l.hypernets.registry import ALIASES, DEFAULT
from tests.conftest import SMALL
from tests.processes import run_python
from tests.tools.commit_subject import check

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CONFIG = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
HOOKS = [hook for repo in yaml.safe_load(CONFIG)["repos"] for hook in repo["hooks"]]
#: Words that begin no docstring: the reader of a pronoun has to look for its noun.
RIDDLES = re.compile(
    r"\W*(All|How|It|None|One|Such|So|That|There|Those|What|Where|Whether|Which|Who|Whose)\b"
)


def test_hooks_are_the_installed_tools_and_need_no_network() -> None:
    assert "://" not in CONFIG
    assert {repo["repo"] for repo in yaml.safe_load(CONFIG)["repos"]} == {"local"}
    extra = PROJECT["project"]["optional-dependencies"]["dev"]
    installed = {re.split(r"[\[<>=]", name)[0] for name in extra}
    for hook in HOOKS:
        tool = hook["entry"].split()[0]
        assert hook["language"] == "system"
        assert Path(tool).parent == Path(".venv/bin")
        assert Path(tool).name in installed | {"python"}


def test_no_dependency_is_declared_twice() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    for declared in (PROJECT["project"]["dependencies"], *extras.values()):
        names = [re.split(r"[\[<>=; ]", name)[0] for name in declared if not name.startswith("d2l")]
        assert sorted(names) == sorted(set(names))


def test_hooks_and_make_run_the_same_tools() -> None:
    made = re.findall(r"\$\(BIN\)/(\w+)", (ROOT / "Makefile").read_text("utf-8"))
    assert {Path(hook["entry"].split()[0]).name for hook in HOOKS} <= set(made)


def test_make_gets_the_base_of_the_network_that_tests_use() -> None:
    (name,) = re.findall(r"^BASE := (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert BY_ALIAS[name].name == ALIASES[SMALL].base


def test_make_demo_gets_the_base_of_the_default_network() -> None:
    """A network in the package has the alias of its base."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (code,) = re.findall(r'base BASE="\$\$\(\$\(BIN\)/python -c "(.*)"\)"$', makefile, re.MULTILINE)
    alias = run_python("-c", code, D2L_CHECKPOINT="").stdout.strip()
    assert BY_ALIAS[alias].name == ALIASES[DEFAULT].base


def test_documents_of_the_package_are_installed_with_it() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["d2l"]
    installed = {path for pattern in patterns for path in (ROOT / "d2l").glob(pattern)}
    assert set((ROOT / "d2l").glob("**/README.md")) <= installed


def list_riddles(path: Path) -> list[str]:
    """Docstrings of a module that begin with one of the words, by their lines."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    described = [(node, ast.get_docstring(node) or "") for node in nodes if isinstance(node, kinds)]
    return [
        f"{path}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}"
        for node, text in described
        if RIDDLES.match(text)
    ]


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    paths = sorted((ROOT / "d2l").rglob("*.py"))
    assert paths
    assert [riddle for path in paths for riddle in list_riddles(path)] == []


def test_a_docstring_that_begins_with_a_pronoun_is_found(tmp_path: Path) -> None:
    path = tmp_path / "riddle.py"
    path.write_text('"""A module."""\n\n\nclass Answer:\n    """What comes back."""\n')
    assert [riddle.partition(":")[2] for riddle in list_riddles(path)] == ["4: What comes back."]


def test_long_subjects_of_commits_are_refused() -> None:
    assert check("room: what changed\n\nWhy, in a body of any length." + "x" * 200) is None
    assert check("x" * 73) == "the subject has 73 characters, at most 72 are allowed"
