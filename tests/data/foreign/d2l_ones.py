"""A network that another package brings: each document becomes one rank of ones."""

from dataclasses import dataclass

import torch
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.bases.families import Reading, module_path
from d2l.documents.chunks import Chunk
from d2l.hypernets.formats.fields import EveryLayer
from d2l.hypernets.formats.format import native_format
from d2l.hypernets.network import Network
from d2l.hypernets.protocol import Assembled, Cut


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
    kind, reads = "ones", ("documents",)
    formats = (native_format("ones", "ones", lambda fields: OnesConfig(**fields)),)
    reader = property(lambda self: self.base)

    def cut(self, documents, options):
        text, ids = documents[0].text, tuple(self.tokenizer.encode(documents[0].text))
        chunk = Chunk(0, ids, "", documents[0].name, rank=1, span=(0, len(text)))
        return Cut((chunk,), self.count_tokens(documents), rank=1, full_rank=1)

    @classmethod
    def load_hypernet(cls, path, entry, *, device, base=None):
        return Ones(entry.read_config(path))
