"""Mutated adapters through every command that takes one: a line or a result, never a traceback.

`python -m tests.fuzz.mutants [--every N] [--seconds S]` runs all (or every N-th) of them in this
process on tiny models and prints counts; exit code 1 where a command failed otherwise.
"""

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file, save

from d2l.adapters.info import PART_VALUES, PARTS
from d2l.adapters.rounding import digest_rounded
from d2l.commands import console
from d2l.commands import main as cli
from d2l.errors import D2LError
from tests.bases.gguf_samples import write_gguf
from tests.compiled import compile_tiny
from tests.fuzz.cases import TooSlow, bound_memory, describe_fault, time_limit
from tests.fuzz.changes import change

#: Fields of d2l.json with the digests of files.
SIGNED = {
    "adapter_model.safetensors": "weights_sha256",
    "memory.safetensors": "memory_sha256",
    PARTS: "parts_sha256",
    "text.json": "text_sha256",
}
#: Changes of a JSON file, and of any other: reading a JSON file decides about more.
N_JSON, N_OTHER = 800, 30
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


#: Changes of a part's tensor, and of parts.json.
TENSORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "flat": lambda t: t.flatten(),
    "half as wide": lambda t: t[..., : t.shape[-1] // 2],
    "without seats": lambda t: t[:, :0],
    "one layer": lambda t: t[:1],
    "zero": lambda t: t * 0,
    "other type": lambda t: t.float(),
    "one axis more": lambda t: t[None],
}
INDICES: tuple[dict[str, Any], ...] = (
    *({"opening": {"ids": ids, "seats": [], "text": ""}} for ids in ([], [10**6], [1] * 10**6)),
    *({"opening": {"ids": [1, 2, 3], "seats": seats, "text": ""}} for seats in ([1], [0, 0, 0])),
    {"opening": None},
    *({"n_end": n} for n in (1, 10**9)),
    {"turns": ["x" * 10**6] * 7},
    *({"format": n} for n in (1, 2, 3)),
)
RECORDS: tuple[dict[str, Any], ...] = (
    *({"n_seats": n} for n in (0, 1, 2, 10**9)),
    {"n_tokens": 10**9},
    {"text": "word " * 10**6},
    {"text": ""},
    *({field: "9" * 10**6} for field in ("source", "document", "values_sha256")),
    {"source": "p. 99999999999"},
    {"headings": ["x" * 5000]},
    {"headings": [""] * 10**5},
)


@dataclass(frozen=True)
class Mutant:
    """One file of an adapter with other bytes; None: the file is missing. `signed`: digests of the
    other files fit it, as a stranger would write them."""

    name: str
    file: str
    data: bytes | None
    signed: bool = False


@dataclass(frozen=True)
class Failure:
    """What a command did with a mutant that it must not do."""

    command: str
    mutant: str
    what: str


def list_mutants(adapter: Path) -> Iterator[Mutant]:
    """All mutants of an adapter, the same ones each time."""
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    for changes in CONFIGS:
        text = json.dumps(config | changes)
        yield Mutant(f"config {changes}", "adapter_config.json", text.encode())
    for template in TEMPLATES:
        yield Mutant(f"template {template!r}", "chat_template.jinja", template.encode())
    for path in sorted(adapter.iterdir()):
        whole = path.read_bytes()
        yield Mutant(f"no {path.name}", path.name, None)
        for n in range(N_JSON if whole[:1] == b"{" else N_OTHER):
            signed = path.name in SIGNED and bool(n % 4)
            yield Mutant(f"{path.name} case {n}", path.name, change(n, [whole]), signed)


def list_part_mutants(adapter: Path) -> Iterator[Mutant]:
    """Mutants of parts, with digests that fit, and values swapped without."""
    tensors = load_file(adapter / PART_VALUES)
    for name, make in TENSORS.items():
        for only in ("", "0.keys", "1.values"):
            changed = {n: make(t).clone() if n.startswith(only) else t for n, t in tensors.items()}
            yield Mutant(f"{name} {only}", PART_VALUES, save(changed), signed=True)
    index = json.loads((adapter / PARTS).read_text("utf-8"))
    n_parts = len(index["parts"])
    for signed in (False, True):
        turned = {
            f"{(int(n) + 1) % n_parts}.{kind}": tensor
            for n, _, kind, tensor in ((*name.partition("."), t) for name, t in tensors.items())
        }
        yield Mutant("values of the next part", PART_VALUES, save(turned), signed)
        back = json.dumps(index | {"parts": index["parts"][::-1]}).encode()
        yield Mutant("reversed", PARTS, back, signed)
    for changes in INDICES:
        text = json.dumps(index | changes)
        yield Mutant(f"index {str(changes)[:60]}", PARTS, text.encode(), signed=True)
    for changes in RECORDS:
        rows = [index["parts"][0] | changes, *index["parts"][1:]]
        text = json.dumps(index | {"parts": rows})
        yield Mutant(f"record {str(changes)[:60]}", PARTS, text.encode(), signed=True)


def sign(adapter: Path) -> None:
    """Write digests that fit the files, as far as these can be read."""
    with contextlib.suppress(Exception):
        tensors = load_file(adapter / PART_VALUES)
        index = json.loads((adapter / PARTS).read_text("utf-8"))
        for n, row in enumerate(index["parts"]):
            named = {name.partition(".")[::2]: tensor for name, tensor in tensors.items()}
            own = {kind: tensor for (at, kind), tensor in named.items() if at == str(n)}
            if len(row.get("values_sha256", "")) == 64:
                row["values_sha256"] = digest_rounded(own)
        (adapter / PARTS).write_text(json.dumps(index), "utf-8")
    with contextlib.suppress(Exception):
        made = json.loads((adapter / "d2l.json").read_text("utf-8"))
        for name, field in SIGNED.items():
            if field in made and (adapter / name).is_file():
                made[field] = hashlib.sha256((adapter / name).read_bytes()).hexdigest()
        (adapter / "d2l.json").write_text(json.dumps(made), "utf-8")


def list_commands(place: Path, base: Path, checkpoint: Path) -> dict[str, list[str]]:
    """Command lines for the adapter at `a.lora`; the intact one lies at `intact.lora`."""
    a, intact, out = (str(place / name) for name in ("a.lora", "intact.lora", "out"))
    on = ["--base", str(base), "--offline"]
    on_gguf = ["--base", str(write_gguf(place / "base.gguf")), "--offline"]
    written = [*on, "--checkpoint", str(checkpoint), "-o", out, "--force"]
    qa = place / "qa.jsonl"
    qa.write_text('{"question": "Where is the pump?", "answers": ["harbor"]}\n', "utf-8")
    return {
        "inspect": ["inspect", a],
        "inspect --json": ["inspect", a, "--json"],
        "check": ["check", a, *on],
        "check --json": ["check", a, "--json", *on],
        "merge": ["merge", a, intact, *written],
        "edit": ["edit", a, "--drop", "#0", *written],
        "edit pages": ["edit", a, "--keep", "p. 1", *written],
        "export gguf": ["export", a, "--to", "gguf", "-o", out, "--force", *on],
        "export mlx": ["export", a, "--to", "mlx", "-o", out, "--force", *on],
        "export parts": ["export", a, "--to", "parts", *written],
        "export ollama": ["export", a, "--to", "ollama", "-o", out, "--force", *on_gguf],
        "ask": ["ask", a, "Who?", "--max-tokens", "1", "--device", "cpu", "--compare", *on],
        "probe": ["probe", a, "--qa", str(qa), "--device", "cpu", *on],
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
            what = describe_fault(error)
        except KeyboardInterrupt:
            raise
        except TooSlow:
            what = "waits without end"
        except BaseException as error:  # noqa: BLE001 - a panic of tokenizers
            what = describe_fault(error)
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
    parts: bool = False,
) -> tuple[Counter[str], list[Failure]]:
    """Try mutants of a tiny seats adapter, with `parts` those of its parts alone: (cases by
    command, failures)."""
    ends = time.monotonic() + seconds
    done = compile_tiny(place, "seats", parts=parts)
    intact, bent = place / "intact.lora", place / "a.lora"
    shutil.copytree(done.adapter, intact)
    os.mkfifo(place / "fifo")
    cases: Counter[str] = Counter()
    failures = []
    commands = list_commands(place, done.base, done.checkpoint)
    with mock.patch.dict(os.environ, {"D2L_CACHE_DIR": str(place / "cache")}), _inside(place):
        listed = list_part_mutants if parts else list_mutants
        for mutant in list(listed(intact))[start::every]:
            if time.monotonic() > ends:
                break
            shutil.rmtree(bent, ignore_errors=True)
            shutil.copytree(intact, bent)
            (bent / mutant.file).unlink()
            if mutant.data is not None:
                (bent / mutant.file).write_bytes(mutant.data)
            if mutant.signed:
                sign(bent)
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
    parser.add_argument("--parts", action="store_true", help="of an adapter with parts")
    given = parser.parse_args()
    bound_memory()
    with tempfile.TemporaryDirectory() as folder:
        cases, failures = run(
            Path(folder),
            every=given.every,
            start=given.start,
            only=given.only,
            seconds=given.seconds,
            parts=given.parts,
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
