"""The parts of documents that are made from the code and from records: run by `make docs`, checked
by a test.

Each stands between `<!-- generated: NAME -->` and `<!-- end -->`. Usage:
python tests/tools/generated_docs.py           rewrites all documents
python tests/tools/generated_docs.py --check   names those that are stale, and exits with 1
"""

import ast
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from d2l.bases.families import FAMILIES
from d2l.commands import main as cli
from d2l.commands.lazy import Groups
from d2l.hypernets.registry import ALIASES, DEFAULT
from d2l.readers.formats import FORMATS
from d2l.runtimes.catalog import RUNTIMES
from d2l.runtimes.export import EXPORTERS
from d2l.runtimes.parts import TARGETS
from d2l.runtimes.runs import read_runs
from d2l_lab.commands import main as lab

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "d2l"
#: Where documents lie. Not `**/*.md` of all: environments and test data have Markdown, too.
_PLACES = ("*.md", ".github/*.md", "d2l/**/*.md", "examples/**/*.md")
#: Every document of the project, the front page first.
DOCUMENTS = tuple(path for place in _PLACES for path in sorted(ROOT.glob(place)))
#: The report of `d2l-lab bench sets` on a shipped network, and its harm; a file for each.
RECALL = Path(__file__).parents[1] / "data" / "seats" / "recall"
SMALL = "smollm2-135m"
#: Networks of the front page: the first that has a record.
SHOWN = (DEFAULT, "qwen2.5-coder-0.5b", SMALL)
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def make_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def list_commands(groups: Groups, path: str) -> Iterator[list[str]]:
    """The words that call every command of a command line, and its help."""
    for row in itertools.chain(*groups.values()):
        if row.below:
            yield from list_commands({"": row.below}, f"{path} {row.name}")
        else:
            yield [f"`{path} {row.name}`", row.help]


def write_commands() -> str:
    """A line for every command."""
    rows = [*list_commands(cli.COMMANDS, "d2l"), *list_commands(cli.TASK_COMMANDS, "t2l")]
    return make_table(("command", "what it does"), rows)


def write_lab() -> str:
    """A line for every command of the laboratory."""
    return make_table(("command", "what it does"), [*list_commands(lab.COMMANDS, "d2l-lab")])


def write_checkpoints() -> str:
    """The table of names that `--checkpoint` knows."""
    rows = [
        [
            f"`{alias.name}`",
            f"{alias.base} ({alias.license})",
            alias.network,
            f"{alias.size_bytes / 1e6:,.0f} MB" if alias.size_bytes else "not known",
            f"`{alias.location}` on the hub" if alias.location else "in the package",
        ]
        for alias in ALIASES.values()
    ]
    return make_table(("name", "base (license)", "network", "size", "where"), rows)


def write_inputs() -> str:
    """The table of document formats."""
    rows = [
        [f"`{name}`", reader.description, " ".join(f"`{s}`" for s in reader.suffixes)]
        for name, reader in FORMATS.items()
    ]
    return make_table(("format", "what", "suffixes"), rows)


def write_families() -> str:
    """The table of base families."""
    rows = [[f"`{name}`", family.description] for name, family in FAMILIES.items()]
    return make_table(("base family", "models"), rows)


def describe_scores(row: Mapping[str, Any]) -> str:
    """Recall with its standard error, and NLL with the end token."""
    recall, error = (f"{x:.2f}".lstrip("0") for x in (row["contained"], row["stderr"]["contained"]))
    return f"{recall} ± {error} / {row['nll']:.2f}"


def read_recall(network: str) -> dict[tuple[str, int], dict[str, Any]]:
    """Rows of a network's record of recall by arm, for each set and length."""
    cells: dict[tuple[str, int], dict[str, Any]] = {}
    for row in read_record(network)["rows"]:
        cells.setdefault((row["set"], row["length"]), {})[row["arm"]] = row
    return cells


def read_record(network: str) -> Any:
    """Read the record of a network; one that was not measured has no rows."""
    path = RECALL / f"{network}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {"rows": []}


def write_recall(network: str) -> str:
    """The tables of what comes back through a network, and of its harm."""
    cells = read_recall(network)
    if not cells:
        return ""
    titles = {
        "parts": "chosen parts",
        "adapter": "adapter",
        "prompt": "document in the prompt",
        "base": "base alone",
    }
    asked = [arm for arm in titles if any(arm in arms for arms in cells.values())]
    rows = [
        [
            f"{name.removeprefix('qa_dev_')}, {length:,}",
            f"{arms['adapter']['seats']:.0f}",
            str(arms["adapter"]["n"]),
            *(
                describe_scores(arms[arm]) if arm in arms else "–" if arm == "parts" else "not run"
                for arm in asked
            ),
        ]
        for (name, length), arms in cells.items()
    ]
    columns = ("set, tokens", "seats", "n", *(titles[arm] for arm in asked))
    harm = [
        [
            str(one["seats"]),
            f"{one['kl']:.2f} ± {one['stderr']['kl']:.2f}",
            f"{one['unchanged']:.2f} ± {one['stderr']['unchanged']:.2f}".replace("0.", "."),
        ]
        for one in (read_record(network).get("harm") or {"by_seats": []})["by_seats"]
    ]
    changed = ("seats", "KL to the base, nats a token", "most likely tokens unchanged")
    return "\n".join([make_table(columns, rows), *([make_table(changed, harm)] if harm else [])])


def write_exports() -> str:
    """The table of what `d2l export` writes."""
    described = {name: exporter.description for name, exporter in EXPORTERS.items()} | TARGETS
    rows = [[f"`{name}`", description] for name, description in described.items()]
    return make_table(("`--to`", "what d2l writes"), rows)


def write_runs() -> str:
    """The table of all runs of other engines, beside PEFT's figures."""
    rows = [
        [
            run.engine,
            f"{run.package}, {run.date}",
            f"`{run.network}`, {run.seats} seats",
            "none told" if run.cosine is None else f"{run.cosine:.4f}",
            f"{run.equal} of 10",
            f"{run.answered} of {run.questions}",
            f"{run.answered_by_peft} of {run.questions}",
        ]
        for run in sorted(read_runs(), key=lambda run: list(RUNTIMES).index(run.engine))
        if run.engine != "peft"
    ]
    titles = ("engine", "version, date", "adapter", "cosine", "equal", "answered", "by PEFT")
    return make_table(titles, rows)


def write_engines() -> str:
    """The short table of runtimes for the front page: runs of the first network of `SHOWN` that has
    any, else of another."""
    recorded = {(run.engine, run.network): run for run in read_runs()}
    shown = next(name for name in SHOWN if any(name == network for _, network in recorded))
    rows = []
    for name, runtime in RUNTIMES.items():
        found = (recorded.get((name, network)) for network in (shown, *SHOWN))
        run = next(filter(None, found), None)
        if run is None:
            rows.append([name, runtime.takes, "by rule", ""])
            continue
        cosine = "" if run.cosine is None else f"{run.cosine:.4f}"
        answered = f"{run.answered} of {run.questions} ({run.answered_by_peft})"
        answered += "" if run.network == shown else f", `{run.network}`"
        rows.append([name, runtime.takes, answered, cosine])
    return make_table(("engine", "takes", f"`{shown}` answered (PEFT)", "cosine"), rows)


def read_about(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").splitlines()[0]


def write_rooms() -> str:
    """One line a room: the folders right below the package."""
    rooms = sorted(path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())
    rows = [[f"`d2l/{room.name}`", read_about(room / "__init__.py")] for room in rooms]
    return make_table(("room", "what is in it"), rows)


SECTIONS: dict[str, Callable[[], str]] = {
    "checkpoints": write_checkpoints,
    "commands": write_commands,
    "engines": write_engines,
    "exports": write_exports,
    "families": write_families,
    "inputs": write_inputs,
    "lab": write_lab,
    "recall_qwen": partial(write_recall, "qwen2.5-coder-0.5b"),
    "recall_smollm2": partial(write_recall, SMALL),
    "rooms": write_rooms,
    "runs": write_runs,
}


def rewrite(text: str) -> str:
    """The text with every generated part made anew."""
    return _BLOCK.sub(lambda match: match[1] + SECTIONS[match[2]]() + match[3], text)


def list_stale() -> list[Path]:
    """Documents whose generated parts are not what they would be now."""
    return [path for path in DOCUMENTS if rewrite(text := path.read_text("utf-8")) != text]


def main() -> None:
    """Rewrite the documents that are stale, or with --check only name them."""
    stale = list_stale()
    for path in stale:
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
        if "--check" not in sys.argv:
            path.write_text(rewrite(path.read_text("utf-8")), "utf-8")
    if stale and "--check" in sys.argv:
        sys.exit("stale: run `make docs`")


if __name__ == "__main__":
    main()
