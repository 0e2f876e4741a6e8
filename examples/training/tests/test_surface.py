"""The modules of d2l that the laboratory imports are those that its README names, and no others."""

import ast
import re
from pathlib import Path

import d2l

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"## Write a network of your own\n(.*?)\n## ", re.DOTALL)


def test_the_laboratory_imports_what_its_readme_names() -> None:
    found = SECTION.search((ROOT / "README.md").read_text("utf-8"))
    assert found is not None
    named = [name for row in re.findall(r"^\|.*\|$", found[1], re.MULTILINE)
             for name in re.findall(r"`([\w.]+)`", row)]  # fmt: skip
    assert len(named) == len(set(named))
    used = set()
    for path in sorted((ROOT / "d2l_lab").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert not [a.name for a in node.names if a.name.split(".")[0] == "d2l"], path
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "d2l":
                for alias in node.names:
                    if node.module == "d2l":
                        assert alias.name in d2l.__all__, f"{path}: {alias.name} is not public"
                    else:
                        used.add(find_module(f"{node.module}.{alias.name}"))
    assert used == set(named)


def find_module(dotted: str) -> str:
    """The module of a dotted name, without d2l before it."""
    path = Path(d2l.__file__).parent.joinpath(*dotted.split(".")[1:])
    is_module = path.with_suffix(".py").is_file() or path.is_dir()
    return (dotted if is_module else dotted.rpartition(".")[0]).removeprefix("d2l.")
