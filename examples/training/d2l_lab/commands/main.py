"""The command line of `d2l-lab`."""

from typing import Annotated

from d2l.commands.lazy import Groups, Row, make_app
from d2l.commands.main import Debug, run, version_option

_HERE = "d2l_lab.commands"
COMMANDS: Groups = {
    "Measure": [
        Row("bench", "Measure a network on documents with questions.", below=(
            Row("sets", "Compile documents of several lengths, and ask about them.",
                "dev.jsonl.gz --length 240 -o sets.json", f"{_HERE}.bench:sets"),
            Row("needles", "Find a number in noise, by length, at ten depths.",
                "--length 4096 --rows needles.jsonl", f"{_HERE}.bench:needles"),
            Row("check", "Try a network on this machine: ten questions on a page.",
                "sakana/gemma-2-2b -o check.json", f"{_HERE}.bench:check"),
            Row("manuals", "Ask about whole documents, which lie beside the questions.",
                "manuals/questions.jsonl", f"{_HERE}.bench:manuals"),
        )),
        Row("eval", "Measure an adapter on examples of its task.", "legal.lora tasks.jsonl",
            f"{_HERE}.evaluate:evaluate"),
    ],
    "Train": [
        Row("train", "Train a network by a recipe.", "recipes/seats-cpu.toml --out runs/one",
            f"{_HERE}.train:train"),
        Row("suffix", "Train the suffix of a base's KV cache.",
            "recipes/suffix.toml -o my-kv", f"{_HERE}.suffix:suffix"),
        Row("export", "Write a run's network as a checkpoint folder.",
            "runs/one -o my-network", f"{_HERE}.train:export"),
    ],
}  # fmt: skip
app = make_app(COMMANDS)


def main() -> None:
    """Run the `d2l-lab` command line."""
    run(app, "d2l-lab")


@app.callback()
def set_up(
    version: Annotated[bool, version_option("d2l-lab")] = False, debug: Debug = False
) -> None:
    """Train and measure networks for d2l."""
