"""A seat network that may learn places begins with some that function words have little room in.

Usage: python -m tests.tools.place_by_words CHECKPOINT DATA OUT
From the encoder's states of passages a line is fitted to the logarithm of what a token is worth:
0.3 if it is a function word or holds no letter and no digit, else 1. OUT is the checkpoint with it,
for training to go on from; without, `learned_places = true` begins with even places. DATA is the
folder of the recipes' data.
"""

import dataclasses
import json
import math
import shutil
import sys
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save_file

from d2l.bases.activations import ActivationEncoder
from d2l.bases.models import load_causal
from d2l.commands import console
from d2l.datasets.questions import read_documents
from d2l.hypernets.fit import SEATS, open_network
from d2l.hypernets.formats import native
from d2l.hypernets.formats.int8 import read_weights
from d2l.hypernets.seats.network import load_seats

SOURCES = ("docs_encyclopedic", "qa_train_squad_articles", "docs_manuals")
PASSAGES = 100  # of each source
RIDGE = 30.0
_FUNCTION_WORDS = """
a about after also an and are as at be been before between but by during for from had has have
he her his in into is it its not of on or over she such than that the their then there these
they this those to under was were when where which who with
"""


def worth(token: str) -> float:
    """What a token is taken to be worth."""
    word = token.strip().lower()
    return 1.0 if any(map(str.isalnum, word)) and word not in _FUNCTION_WORDS.split() else 0.3


@torch.no_grad()
def main(checkpoint: str, data: str, out: str) -> None:
    """Write the checkpoint with a fitted `place.weight`."""
    network = open_network(checkpoint, kinds=SEATS, offline=True)
    causal = load_causal(network.base, device="cpu", dtype=torch.float32)
    seats, config = load_seats(network.files.path, causal.model), network.config
    read = ActivationEncoder(causal.model, config.reading)
    states, wanted = [], []
    for source in SOURCES:
        for document in islice(read_documents(Path(data, f"{source}.jsonl.gz")), PASSAGES):
            ids = network.tokenizer.encode(document.text)[: config.chunk_tokens]
            hidden = read([*config.read_opening, *ids]).hidden
            states.append(seats.network.encode(hidden.clone()))
            wanted += [math.log(worth(network.tokenizer.decode([token]))) for token in ids]
    weight = fit(torch.cat(states), torch.tensor(wanted))
    folder = Path(out)
    shutil.copytree(network.files.path, folder)
    placed = dataclasses.replace(config, version=1, learned_places=True)
    text = json.dumps(dataclasses.asdict(placed), indent=1) + "\n"
    (folder / native.CONFIG_FILE).write_text(text, "utf-8")
    weights = read_weights(folder / native.WEIGHTS_FILE)
    save_file(weights | {"place.weight": weight}, folder / native.WEIGHTS_FILE)
    console.result(out)


def fit(x: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Weights (1, width) of a line from x (tokens, width) to `wanted` (tokens,); no constant."""
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    moments = x.T @ x + RIDGE * torch.eye(x.shape[1])
    line: torch.Tensor = torch.linalg.solve(moments, x.T @ wanted)
    return line[None, :-1].contiguous()


if __name__ == "__main__":
    main(*sys.argv[1:])
