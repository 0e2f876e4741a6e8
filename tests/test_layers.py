"""Who may import whom, who may print and who may open files: read from the source with `ast`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "d2l"
ROOMS = ("documents", "bases", "hypernets", "adapters")
#: Everything printed comes from here.
SURFACE = {
    "__main__",
    "change_commands",
    "check_command",
    "cli",
    "cli_options",
    "console",
    "conversation",
    "eval_command",
    "export_command",
    "heatmap",
    "make_command",
    "probe_command",
    "task_views",
    "train_command",
    "training_view",
    "views",
}
#: Where functions are commands, with as many parameters as options.
COMMANDS = {
    "change_commands",
    "check_command",
    "cli",
    "export_command",
    "eval_command",
    "make_command",
    "probe_command",
    "train_command",
}
#: Values and helpers that know no room; everybody may use them.
SHARED = {"__init__", "errors", "folders"}
#: What a room may use of other rooms, by module.
ACROSS = {
    "hypernets": {"bases", "adapters.weights", "adapters.merge"},
    "documents": set(),
    "bases": set(),
    "adapters": set(),
}
#: Modules that touch the disk: readers, models, checkpoints and adapter files, and their parts.
OPENERS = {
    "change_records",  # copies the tokenizer files of the parents
    "check",
    "descriptions",
    "card",  # copies the tokenizer files of the base
    "adapters.mlx_adapter",
    "adapters.peft_files",
    "adapters.provenance",
    "bases.embeddings",
    "bases.gguf_files",
    "bases.hub",
    "bases.storage",
    "bases.tokens",
    "bases.models",
    "bases.old_keys",
    "bases.shards",
    "documents.readers.__init__",
    "documents.readers.archives",
    "documents.readers.docx",
    "documents.readers.epub",
    "documents.sandbox",
    "export_targets",
    "folders",
    "general_answers",
    "harm",
    "html_report",
    "hypernets.archives",
    "hypernets.checkpoints",
    "hypernets.compact",
    "hypernets.familiarity",
    "hypernets.native",
    "hypernets.pickles",
    "hypernets.released",
    "hypernets.released_text",
    "hypernets.seats_config",
    "hypernets.statistics",
    "probe_data",
    "rates",
    "recipes",
    "run_export",
    "runs",
    "seats_trainee",
    "tasks",
    "text_embeddings",
    "training_data",
    "widen",
}
_OPENING = {
    "open",
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "load_file",
    "save_file",
    "safe_open",
    "ZipFile",
}


def list_modules() -> dict[str, ast.Module]:
    """Syntax tree of every module, by its dotted name below the package."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(
            path.read_text("utf-8")
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = list_modules()


def list_imports(name: str) -> Iterator[str]:
    """Dotted names below the package that a module imports, wherever in the module."""
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            yield from (a.name.removeprefix("d2l.") for a in node.names if a.name[:4] == "d2l.")
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            module = node.module or ""
            if module.split(".")[0] != "d2l":
                continue
            for alias in node.names:
                dotted = f"{module}.{alias.name}".removeprefix("d2l.")
                parent = module.removeprefix("d2l").removeprefix(".")
                yield dotted if is_module(dotted) else parent or "__init__"


def is_module(dotted: str) -> bool:
    return dotted in MODULES or f"{dotted}.__init__" in MODULES


def room_of(name: str) -> str | None:
    first = name.split(".")[0]
    return first if first in ROOMS else None


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name: str) -> None:
    room = room_of(name)
    for imported in list_imports(name):
        if imported in SHARED:
            continue
        target = room_of(imported)
        if name in SHARED:
            raise AssertionError(f"{name}, which everybody uses, imports {imported}")
        if room is None:
            assert target or name in SURFACE or imported not in SURFACE, f"{name}: {imported}"
            continue
        allowed = {room, *ACROSS[room]}
        parts = {imported, imported.split(".")[0]}
        assert parts & allowed, f"{name} imports {imported}; {room} may use {sorted(allowed)}"


@pytest.mark.parametrize("name", sorted(MODULES.keys() - SURFACE))
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


@pytest.mark.parametrize("name", sorted(MODULES.keys() - OPENERS))
def test_only_readers_and_writers_of_files_open_them(name: str) -> None:
    for node in ast.walk(MODULES[name]):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        word = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        assert word not in _OPENING, f"{name}, line {node.lineno}: {word}"


def test_the_lists_above_name_modules_that_exist() -> None:
    assert not (SURFACE | SHARED | OPENERS) - MODULES.keys()
    assert all(is_module(name) for names in ACROSS.values() for name in names)


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
            if not isinstance(node, ast.FunctionDef) or name in COMMANDS:
                continue
            where = f"{name}.{node.name}"
            assert (node.end_lineno or 0) - node.lineno < 60, f"{where} is long"
            arguments = [*node.args.args, *node.args.kwonlyargs]
            named = [a for a in arguments if a.arg not in ("self", "cls")]
            assert len(named) <= 6, f"{where} takes {len(named)} arguments"
