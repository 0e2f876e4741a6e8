"""Python in a process of its own."""

import ast
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def make_environment(**more: str) -> dict[str, str]:
    """For a process that may start in any folder."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def run_python(
    *arguments: object, folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python to its end, whatever its exit code."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=make_environment(**environment),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def list_imported(code: str, *names: str) -> set[str]:
    """Which of these modules are loaded once some code has run."""
    told = f"\nimport sys\nprint(sorted({set(names)!r} & set(sys.modules)))"
    done = run_python("-c", code + told)
    assert done.returncode == 0, done.stderr
    return set(ast.literal_eval(done.stdout.splitlines()[-1]))
