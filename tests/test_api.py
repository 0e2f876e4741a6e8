"""The public names: they exist, they come when asked for, and each has an example that runs."""

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import d2l
from tests.processes import run_python

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", d2l.__all__)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    value = getattr(d2l, name)
    assert name in dir(d2l)
    if name != "__version__":
        assert value.__doc__
        assert value.__name__ == name
        assert value is getattr(importlib.import_module(value.__module__), name)


def test_completion_offers_the_public_names_alone() -> None:
    assert importlib.import_module("d2l.errors")
    assert dir(d2l) == sorted(d2l.__all__)


def test_other_names_are_missing_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'd2l' has no attribute 'compiles'"):
        d2l.compiles  # type: ignore[attr-defined]  # noqa: B018
    assert importlib.import_module("d2l.compiler.run").run


def test_every_public_name_has_an_example_that_runs() -> None:
    """The script, and the Python blocks of the package's README, which a test runs."""
    readme = (ROOT / "d2l" / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    shown = "".join([(ROOT / "examples" / "api.py").read_text("utf-8"), *blocks])
    names = [name for name in d2l.__all__ if name != "__version__"]
    assert [name for name in names if f"d2l.{name}" not in shown] == []


def test_verbs_are_there_before_torch_is() -> None:
    verbs = "d2l.compile, d2l.merge, d2l.edit, d2l.export, d2l.check, d2l.Document"
    program = f"import sys, d2l; {verbs}; sys.exit('torch' in sys.modules)"
    assert run_python("-W", "error", "-c", program).returncode == 0


@pytest.mark.parametrize(
    ("function", "keyword", "default"),
    [
        (d2l.compile, "tokens_per_seat", None),
        (d2l.compile, "dtype", "bf16"),
        (d2l.Compiler.plan, "max_rank", None),
        (d2l.Compiler.__call__, "chunking", "usual"),
        (d2l.TaskCompiler.plan, "scaling", "standard"),
        (d2l.TaskCompiler.__call__, "dtype", "bf16"),
        (d2l.merge, "device", "auto"),
        (d2l.edit, "local_files_only", False),
        (d2l.export, "force", False),
        (d2l.Adapter.push_to_hub, "private", None),
    ],
)
def test_help_shows_the_keywords_of_options_with_their_defaults(
    function: Callable[..., object], keyword: str, default: object
) -> None:
    shown = inspect.signature(function).parameters
    assert shown[keyword].default == default
    assert not [p for p in shown.values() if p.kind is p.VAR_KEYWORD]
    assert "offline" not in shown
