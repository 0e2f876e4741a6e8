"""Who may import whom, who may print, and how long things may be: read from the source with `ast`.

The package is a house: a few modules that everybody may use, and rooms. One case a room.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "d2l"
#: What each room may import besides itself, floor by floor: only rooms of the floors above it.
FLOORS: tuple[dict[str, str], ...] = (
    {
        "errors": "",
        "interrupts": "",
        "memory": "",
        "progress": "",
        "spelling": "",
        "version": "",
        "words": "",
        "__init__": "",
    },  # __init__: its public names see below
    {"files": ""},
    {"readers": "files"},
    {"documents": "readers files", "datasets": "files"},
    {"bases": "files", "adapters": "files"},
    {"hypernets": "documents datasets adapters bases files"},
    {"parts": "adapters bases", "runtimes": "adapters bases files"},
    {"answer": "documents datasets adapters bases parts"},
    {"serve": "datasets adapters parts answer"},
    {"compiler": "documents datasets bases adapters hypernets files"},
    {"change": "bases adapters hypernets parts compiler"},
    {"api": "documents datasets bases adapters hypernets answer runtimes compiler change files"},
    {
        "batch": "documents adapters hypernets compiler api files",
        "evaluation": "readers documents datasets bases adapters hypernets parts answer serve "
        "compiler api files",
    },
    {
        "commands": "documents datasets bases adapters hypernets parts answer serve runtimes "
        "compiler change api batch evaluation files"
    },
)
#: Modules at the root that every room may use.
SHARED = set(FLOORS[0])
USES = {room: set(uses.split()) for floor in FLOORS for room, uses in floor.items()}
ROOMS = [room for room in USES if room not in SHARED]
#: What starts before anything is computed, and so without these libraries.
LIGHT = ("__init__", "commands.main", "commands.console", "commands.options")
HEAVY = {"torch", "transformers"}


def list_modules() -> dict[str, ast.Module]:
    """Syntax tree of every module, by its dotted name below the package; folders by their own."""
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        folder = parts[:-1] if parts[-1] == "__init__" else ()
        modules[".".join(folder or parts)] = ast.parse(path.read_text("utf-8"))
    return modules


MODULES = list_modules()


def room_of(name: str) -> str:
    """The room of a module; `__main__` is the door of the command room."""
    return "commands" if name == "__main__" else name.split(".")[0]


def modules_of(room: str) -> list[str]:
    return [name for name in MODULES if room_of(name) == room]


def read_imports(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    """Dotted names that import statements name: modules of the package without `d2l.` before."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (inside(alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            for alias in node.names:
                whole = inside(f"{node.module}.{alias.name}")
                yield whole if whole in MODULES else inside(str(node.module))


def inside(dotted: str) -> str:
    return "__init__" if dotted == "d2l" else dotted.removeprefix("d2l.")


def own_imports(name: str) -> set[str]:
    """Modules of the package that a module imports, wherever in it."""
    return {imported for imported in read_imports(ast.walk(MODULES[name])) if imported in MODULES}


def test_every_module_is_in_a_room_and_rooms_look_up() -> None:
    assert {room_of(name) for name in MODULES} == set(USES)
    above: set[str] = set()
    for floor in FLOORS:
        for room, uses in floor.items():
            assert set(uses.split()) <= above - SHARED, f"{room} uses a room that is not above it"
        above |= set(floor)


@pytest.mark.parametrize("room", [room for room in USES if room != "__init__"])
def test_a_room_imports_only_what_it_may(room: str) -> None:
    allowed = USES[room] | {room} | SHARED
    for name in modules_of(room):
        wrong = sorted(other for other in own_imports(name) if room_of(other) not in allowed)
        assert not wrong, f"{name} imports {wrong}; {room} may use {sorted(allowed)}"


def test_the_package_names_what_rooms_give_and_imports_none_of_it() -> None:
    """`import d2l` runs no module of the package: what it names, type checkers alone import."""
    body = MODULES["__init__"].body
    assert {name for name in read_imports(body) if name in MODULES} <= {"version"}
    (checking,) = [node for node in body if isinstance(node, ast.If)]
    assert ast.unparse(checking.test) == "TYPE_CHECKING"
    rooms = {room_of(name) for name in read_imports(checking.body)}
    assert rooms == {"api", "documents", "errors", "answer"}


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports inside functions count; those for type checkers alone do not."""
    waiting = {name: list_runtime_imports(MODULES[name]) - {name} for name in MODULES}
    while free := {name for name, imported in waiting.items() if not imported}:
        waiting = {n: imported - free for n, imported in waiting.items() if n not in free}
    assert not waiting, f"in or above a circle: {sorted(waiting)}"


def list_runtime_imports(module: ast.Module) -> set[str]:
    """Modules of the package that a module imports when it is run, wherever in it."""
    statements: list[ast.AST] = [module]
    for node in statements:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            statements += node.orelse
        else:
            statements += ast.iter_child_nodes(node)
    return {name for name in read_imports(iter(statements)) if name in MODULES and "." in name}


@pytest.mark.parametrize("name", LIGHT)
def test_what_starts_first_imports_no_heavy_library(name: str) -> None:
    """Nor does anything that it imports at its top, however deep."""
    seen, waiting = set(), {name}
    while waiting:
        at = waiting.pop()
        seen.add(at)
        for imported in read_imports(MODULES[at].body):
            assert imported.split(".")[0] not in HEAVY, f"{at} imports {imported}"
            parts = imported.split(".")
            above = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
            waiting |= (above & MODULES.keys()) - seen


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "commands"])
def test_only_commands_print(room: str) -> None:
    for name in modules_of(room):
        for node in ast.walk(MODULES[name]):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{name} prints"
            if isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr"):
                # A mean's `stderr` is its error, and a child's `stdout` is read, not written.
                if not isinstance(node.value, ast.Name) or node.value.id != "sys":
                    continue
                # A child speaks to its parent through its own pipes.
                assert name == "files.child_side", f"{name} uses {node.attr}"
            if isinstance(node, ast.ImportFrom) and node.module == "sys":
                assert not {alias.name for alias in node.names} & {"stdout", "stderr"}, name


@pytest.mark.parametrize("room", ROOMS)
def test_modules_are_short_and_say_what_they_are(room: str) -> None:
    for name in modules_of(room):
        tree = MODULES[name]
        path = PACKAGE / Path(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert len(path.read_text("utf-8").splitlines()) <= 400, f"{name} is long"
        described = ast.get_docstring(tree)
        assert described, f"{name} has no docstring"
        assert len(described.splitlines()[0]) <= 97, name
        if path.name == "__init__.py":
            assert len(tree.body) == 1, f"{name} holds more than its docstring"


def test_functions_are_short_and_take_few_arguments() -> None:
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or room_of(name) == "commands":
                continue  # commands have as many parameters as options
            where = f"{name}.{node.name}"
            assert (node.end_lineno or 0) - node.lineno < 60, f"{where} is long"
            arguments = [*node.args.args, *node.args.kwonlyargs]
            named = [a for a in arguments if a.arg not in ("self", "cls")]
            assert len(named) <= 6, f"{where} takes {len(named)} arguments"
