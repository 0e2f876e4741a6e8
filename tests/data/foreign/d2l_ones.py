"""A network that another package brings: each document becomes one rank of ones. Its files have
names of their own."""

import json
from dataclasses import dataclass

import torch
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.bases.families import Reading, module_path
from d2l.documents.chunks import Chunk
from d2l.hypernets.formats.fields import EveryLayer
from d2l.hypernets.formats.format import Format
from d2l.hypernets.network import Network
from d2l.hypernets.protocol import Assembled, Cut
from safetensors.torch import load_file


@dataclass(frozen=True)
class OnesConfig(EveryLayer):
    base: str
    n_layers: int
    d_in: tuple
    d_out: tuple
    kind, target_modules, bias_rank, chunk_tokens = "ones", ("down_proj",), 0, None
    reading = Reading(1, (0,))
    module_shapes = property(lambda self: self.pair_sizes(self.target_modules))


class Ones:
    def __init__(self, config):
        factors = LoraFactors(torch.ones(1, config.d_in[0]), torch.ones(config.d_out[0], 1))
        names = [module_path(layer, "down_proj") for layer in range(config.n_layers)]
        self.weights = LoraWeights(config.base, 1.0, {name: factors for name in names})

    def generate(self, activations, rank):
        return self.weights

    def assemble(self, written, merging):
        return Assembled(*written)


class OnesNetwork(Network[OnesConfig]):
    kind = "ones"
    formats = (
        Format(
            name="ones",
            description="a folder of ones (ones.json, ones.weights)",
            matches=lambda path: (path / "ones.json").is_file(),
            read_config=lambda path: OnesConfig(**json.loads((path / "ones.json").read_text())),
            read_tensors=lambda path: load_file(path / "ones.weights"),
            find_weights=lambda path: path / "ones.weights",
            weights=("ones.weights",),
            texts=("ones.json",),
        ),
    )

    def cut(self, documents, options):
        text, ids = documents[0].text, tuple(self.tokenizer.encode(documents[0].text))
        chunk = Chunk(0, ids, "", documents[0].name, rank=1, span=(0, len(text)))
        return Cut((chunk,), self.count_tokens(documents), rank=1, full_rank=1)

    @classmethod
    def load_hypernet(cls, path, entry, *, device, base=None):
        assert entry.read_tensors(path).keys() == {"one"}
        return Ones(entry.read_config(path))
