"""Mutated adapters through every command that takes one: a line or a result, never a traceback.

`python -m tests.fuzz.mutants [--every N] [--seconds S]` runs all (or every N-th) of them in this
process on tiny models and prints counts; exit code 1 where a command failed otherwise.
"""

import argparse
import contextlib
import copy
import io
import json
import math
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from d2l.commands import console
from d2l.commands import main as cli
from d2l.errors import D2LError
from tests.compiled import compile_tiny
from tests.fuzz.cases import TooSlow, bound_memory, time_limit

#: What stands in the place of any value.
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3,
    10**12,
    10**400,
    -0.5,
    float("nan"),
    float("inf"),
    1e308,
    "",
    "7",
    "a\x1b[2J\x1b]0;b\x07",
    "\x9b31m",
    "p. 1-99999999999",
    "\ud800",
    "fifo",
    "/dev/zero",
    "x" * 5000,
    [],
    [[0, 10**10]],
    [0, 10**10],
    {},
    {"a": 1},
)
BAD_PATTERNS: tuple[dict[str, Any], ...] = (
    {"(.*)*x": 8},
    {"(": 1},
    {"q_proj": None},
    {"v_proj": 10**400},
    {"(q|q)*\\1": 2},
)
CONFIGS: tuple[dict[str, Any], ...] = (
    *({"rank_pattern": pattern} for pattern in BAD_PATTERNS),
    *({"alpha_pattern": pattern} for pattern in BAD_PATTERNS),
    {"target_modules": "(.*)*x"},
    {"target_modules": "("},
    {"exclude_modules": "(.*)*x"},
    {"layers_pattern": "(.*)*x", "layers_to_transform": [0]},
    {"modules_to_save": ["(.*)*x"]},
    {"modules_to_save": 1},
    {"use_dora": True},
    {"auto_mapping": {"base_model_class": "x", "parent_library": "os"}},
    {"peft_type": "LOHA"},
    {"peft_type": "\x1b[2J"},
    {"base_model_name_or_path": "../../\x1b[2J"},
    {"megatron_config": {"a": 1}, "megatron_core": "os"},
)
TEMPLATES = (
    "",
    "{% if %}",
    "{{ 1 / 0 }}",
    "{{ nothing.at.all }}",
    "{{ messages[9] }}",
    "{{ messages[0]['no'] + 1 }}",
    "{{ raise_exception('\x1b[2J no') }}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ '%09999999999d' % 1 }}",
    "{{ 'a' * 2000000 }}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% include '/etc/passwd' %}",
    "{{ [].append(1) }}",
    "{{ '\x1b[2J' }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ messages | map('a') | list }}",
    "{% set x = namespace(a=[]) %}{% for i in range(999) %}{% set x.a = [x.a] + [1] %}{% endfor %}",
    "{{ messages[0]['content'] }}",
    "\ufffd" * 9,
)


@dataclass(frozen=True)
class Mutant:
    """One file of an adapter with other bytes; None: the file is missing."""

    name: str
    file: str
    data: bytes | None


@dataclass(frozen=True)
class Failure:
    """What a command did with a mutant that it must not do."""

    command: str
    mutant: str
    what: str


def list_mutants(adapter: Path, *, bytes_each: int = 30) -> Iterator[Mutant]:
    """All mutants of an adapter, the same ones each time."""
    for file in ("d2l.json", "adapter_config.json", "tokenizer_config.json"):
        if (adapter / file).is_file():
            yield from _change_values(file, json.loads((adapter / file).read_text("utf-8")))
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    for change in CONFIGS:
        text = json.dumps(config | change)
        yield Mutant(f"config {change}", "adapter_config.json", text.encode())
    for template in TEMPLATES:
        yield Mutant(f"template {template!r}", "chat_template.jinja", template.encode())
    for file in sorted(path.name for path in adapter.iterdir()):
        whole = (adapter / file).read_bytes()
        yield Mutant(f"no {file}", file, None)
        for n in range(bytes_each):
            yield Mutant(f"{file} bytes {n}", file, _bend(whole, n))


def _change_values(file: str, values: Any) -> Iterator[Mutant]:
    for place in _places(values):
        where = ".".join(map(str, place))
        changed = copy.deepcopy(values)
        at = _walk(changed, place[:-1])
        del at[place[-1]]
        yield Mutant(f"{file} {where} missing", file, json.dumps(changed).encode())
        for value in VALUES:
            changed = copy.deepcopy(values)
            _walk(changed, place[:-1])[place[-1]] = value
            text = _spell(changed)
            yield Mutant(f"{file} {where} = {_show(value)}", file, text.encode())


def _spell(value: Any) -> str:
    sys.set_int_max_str_digits(0)  # to spell a number of any length; reading has the usual limit
    try:
        return json.dumps(value)
    finally:
        sys.set_int_max_str_digits(4300)


def _show(value: Any) -> str:
    return "10**400" if value == 10**400 else repr(value)[:40]


def _places(values: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested values, of lists the first and the last."""
    keys = list(values) if isinstance(values, dict) else []
    if isinstance(values, list):
        keys = sorted({0, len(values) - 1}) if values else []
    for key in keys:
        yield (*before, key)
        yield from _places(values[key], (*before, key))


def _walk(values: Any, place: Sequence[Any]) -> Any:
    for key in place:
        values = values[key]
    return values


def _bend(data: bytes, n: int) -> bytes:
    """Some bytes of a file put in, taken out, or written over, mostly near its beginning."""
    chance = random.Random(n)
    bent = bytearray(data)
    for _ in range(1 + n % 4):
        at = chance.randrange(min(len(bent), 1500) or 1)
        kind = chance.randrange(4)
        if kind == 0:
            bent[at : at + chance.randrange(1, 9)] = b""
        elif kind == 1:
            bent[at:at] = chance.choice((b"\0", b'"', b"{", b"9" * 30, b"\xff\xfe", b"\x1b[2J"))
        elif kind == 2 and bent:
            bent[at % len(bent)] = chance.randrange(256)
        else:
            del bent[chance.randrange(len(bent) or 1) :]
    return bytes(bent)


def list_commands(place: Path, base: Path, checkpoint: Path) -> dict[str, list[str]]:
    """Command lines for the adapter at `a.lora`; the intact one lies at `intact.lora`."""
    a, intact, out = (str(place / name) for name in ("a.lora", "intact.lora", "out"))
    on = ["--base", str(base), "--offline"]
    change = [*on, "--checkpoint", str(checkpoint), "-o", out, "--force"]
    return {
        "inspect": ["inspect", a],
        "inspect --json": ["inspect", a, "--json"],
        "check": ["check", a, *on],
        "check --json": ["check", a, "--json", *on],
        "diff": ["diff", intact, a],
        "diff --json": ["diff", a, intact, "--json"],
        "merge": ["merge", a, intact, *change],
        "edit": ["edit", a, "--drop", "#0", *change],
        "edit pages": ["edit", a, "--rescale", "p. 1=2", *change],
        "export gguf": ["export", a, "--to", "gguf", "-o", out, "--force", *on],
        "export mlx": ["export", a, "--to", "mlx", "-o", out, "--force", *on],
        "export ollama": ["export", a, "--to", "ollama", "-o", out, "--force", *on],
        "ask": ["ask", a, "Who?", "--max-tokens", "1", "--device", "cpu", "--compare", *on],
        "probe": ["probe", a, "--no-harm", "--limit", "1", "--device", "cpu", *on],
    }


#: Of processor time: another's load is no fault.
_LIMIT_S = 20.0
_WAIT_S = 300.0  # by the clock: whoever waits for a pipe takes no processor time
#: Escape sequences and other controls; a line's end and a tab are none.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def try_command(name: str, words: Sequence[str], limit_s: float) -> str | None:
    """Run a command line in this process; what it did that it must not do, or None."""
    out, err = io.StringIO(), io.StringIO()
    began = time.process_time()
    what = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            with time_limit(_WAIT_S):
                cli.app(list(words), prog_name="d2l", standalone_mode=False)
        except D2LError as error:
            console.show_error(error)
            if "\n" in error.message:
                what = f"a message of several lines: {error.message[:80]!r}"
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            at = traceback.extract_tb(error.__traceback__)
            own = [f for f in at if "/d2l/" in f.filename] or list(at)
            last = own[-1]
            what = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {error}"
        except KeyboardInterrupt:
            raise
        except TooSlow:
            what = "waits without end"
        except BaseException as error:  # noqa: BLE001 - a panic of tokenizers
            what = f"{type(error).__name__}: {error}"
    took = time.process_time() - began
    if what is None and took > limit_s:
        what = f"takes {took:.0f} s"
    if what is None and (found := _CONTROLS.search(out.getvalue() + err.getvalue())):
        what = f"prints {found[0]!r}"
    if what is None and name.endswith("--json") and out.getvalue():
        try:
            json.loads(out.getvalue(), parse_constant=_refuse)
        except ValueError as error:
            what = f"prints no JSON: {error}"
    return what and what[:200]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def run(
    place: Path,
    *,
    every: int = 1,
    start: int = 0,
    only: Sequence[str] = (),
    seconds: float = math.inf,
) -> tuple[Counter[str], list[Failure]]:
    """Try mutants of a tiny seats adapter: (cases by command, failures)."""
    ends = time.monotonic() + seconds
    done = compile_tiny(place, "seats")
    intact, bent = place / "intact.lora", place / "a.lora"
    shutil.copytree(done.adapter, intact)
    os.mkfifo(place / "fifo")
    cases: Counter[str] = Counter()
    failures = []
    commands = list_commands(place, done.base, done.checkpoint)
    with mock.patch.dict(os.environ, {"D2L_CACHE": str(place / "cache")}), _inside(place):
        for mutant in list(list_mutants(intact))[start::every]:
            if time.monotonic() > ends:
                break
            shutil.rmtree(bent, ignore_errors=True)
            shutil.copytree(intact, bent)
            (bent / mutant.file).unlink()
            if mutant.data is not None:
                (bent / mutant.file).write_bytes(mutant.data)
            for name, words in commands.items():
                if only and name not in only:
                    continue
                cases[name] += 1
                what = try_command(name, words, _LIMIT_S)
                if what is not None:
                    failures.append(Failure(name, mutant.name, what))
                    sys.stderr.write(f"{name} | {mutant.name} | {what}\n")
                    sys.stderr.flush()
    return cases, failures


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def write(line: str) -> None:
    """A line on stdout, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="commands by name")
    parser.add_argument("--seconds", type=float, default=math.inf)
    given = parser.parse_args()
    bound_memory()
    with tempfile.TemporaryDirectory() as folder:
        cases, failures = run(
            Path(folder),
            every=given.every,
            start=given.start,
            only=given.only,
            seconds=given.seconds,
        )
    for name, n in cases.items():
        bad = [f for f in failures if f.command == name]
        write(f"{name:<16} {n:>6} cases  {len(bad):>4} failures")
    kinds = Counter(re.sub(r"\d+", "N", f.what)[:90] for f in failures)
    for what, n in kinds.most_common():
        write(f"{n:>5} × {what}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
