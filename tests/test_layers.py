"""Who may print, and how long things may be: read from the source with `ast`."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "d2l"
#: Where functions are commands, with as many parameters as options.
COMMANDS = "commands"


def list_modules() -> dict[str, ast.Module]:
    """Syntax tree of every module, by its dotted name below the package."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(
            path.read_text("utf-8")
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = list_modules()


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] != COMMANDS])
def test_only_the_surface_prints(name: str) -> None:
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{name} prints"
        if isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr"):
            # A mean's `stderr` is its error, and a child's `stdout` is read, not written.
            if not isinstance(node.value, ast.Name) or node.value.id != "sys":
                continue
            # The parsers' child speaks to its parent through its own pipes.
            assert name == "documents.worker", f"{name} uses {node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "sys":
            assert not {alias.name for alias in node.names} & {"stdout", "stderr"}, name


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short_and_say_what_they_are(name: str) -> None:
    path = PACKAGE / Path(*name.split(".")).with_suffix(".py")
    assert len(path.read_text("utf-8").splitlines()) <= 400
    described = ast.get_docstring(MODULES[name])
    assert described, f"{name} has no docstring"
    assert len(described.splitlines()[0]) <= 97


def test_functions_are_short_and_take_few_arguments() -> None:
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or name.split(".")[0] == COMMANDS:
                continue
            where = f"{name}.{node.name}"
            assert (node.end_lineno or 0) - node.lineno < 60, f"{where} is long"
            arguments = [*node.args.args, *node.args.kwonlyargs]
            named = [a for a in arguments if a.arg not in ("self", "cls")]
            assert len(named) <= 6, f"{where} takes {len(named)} arguments"
