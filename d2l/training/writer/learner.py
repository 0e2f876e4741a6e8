"""A question writer in training: a LoRA of the frozen base, its data, its loss, its adapter.

A writer reads a passage with one of its answers marked and writes the question
(`inference.writer`). The recipe names a network whose base it is for; its data are questions that
people asked. The loop is `training.loop`.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from d2l.adapters.peft_folder import AdapterContent, read_adapter, write_adapter
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.bases.chat import make_chat
from d2l.bases.families import module_path
from d2l.bases.models import load_causal, read_out
from d2l.errors import RecipeError, ShapeError
from d2l.hypernets.fit import OpenNetwork
from d2l.learners.distributed import Team
from d2l.learners.document_data import Exercise, Passage, find_answer
from d2l.learners.forward import Generated, adapted
from d2l.learners.learner import Figure, Row, Share
from d2l.learners.materials import Materials, gather_documents
from d2l.learners.recipes import Recipe
from d2l.learners.seats.loss import measure_loss, pack_exercises
from d2l.refining.writer_prompts import Span, WriterPrompts

#: What a writer changes: how the base attends, and nothing of what it knows.
MODULES = ("q_proj", "v_proj", "o_proj")
_MIN_TOKENS = 12  # of a passage
_MOST_TRIES = 50  # passages looked at for one that has questions
_LONGEST_QUESTION = 48  # tokens


@dataclass(frozen=True)
class WriterConfig:
    """Sizes of a question writer, and the base that it is for."""

    base: str
    rank: int
    n_layers: int
    shapes: tuple[tuple[str, int, int], ...]  # (module, d_in, d_out)
    kind: str = "writer"


class WriterLora(nn.Module):
    """A fresh LoRA, which changes nothing yet; its scale is 1."""

    def __init__(self, config: WriterConfig) -> None:
        super().__init__()
        layers, rank = config.n_layers, config.rank
        self.a, self.b = nn.ParameterDict(), nn.ParameterDict()
        for name, d_in, d_out in config.shapes:
            self.a[name] = nn.Parameter(torch.randn(layers, rank, d_in) / d_in**0.5)
            self.b[name] = nn.Parameter(torch.zeros(layers, rank, d_out))

    @torch.no_grad()
    def take(self, weights: LoraWeights) -> None:
        """Go on from an adapter of the same modules and rank; raises ShapeError."""
        expected = self.weights("").factors
        shapes = {path: (tuple(f.a.shape), tuple(f.b.shape)) for path, f in expected.items()}
        found = {path: (tuple(f.a.shape), tuple(f.b.shape)) for path, f in weights.factors.items()}
        if found != shapes:
            raise ShapeError("the adapter has other modules, layers or another rank")
        for name in self.a:
            for layer in range(self.a[name].shape[0]):
                factors = weights.factors[module_path(layer, name)]
                self.a[name][layer] = factors.a
                self.b[name][layer] = factors.b.T * weights.scale

    def generated(self) -> Generated:
        """Its factors as `training.forward` puts them on a base."""
        return {name: (self.a[name], self.b[name]) for name in self.a}

    def weights(self, base: str) -> LoraWeights:
        """Its factors as an adapter's."""
        return LoraWeights(
            base,
            1.0,
            {
                module_path(layer, name): LoraFactors(
                    self.a[name][layer].detach().cpu().clone(),
                    self.b[name][layer].detach().cpu().T.contiguous(),
                )
                for name in self.a
                for layer in range(self.a[name].shape[0])
            },
        )


@dataclass(frozen=True)
class DrawnPassage:
    """A passage and what is asked about it: where each answer stands, and the question."""

    passage: Passage
    asked: tuple[tuple[Span, str], ...]


@dataclass(frozen=True)
class WriterLearner:
    """A `Learner`: a question writer on its frozen base."""

    network: WriterLora
    config: WriterConfig
    causal: Any
    prompts: WriterPrompts
    materials: Materials[Any]

    def draw(self, step: int) -> list[DrawnPassage]:
        """The passages of one step with questions about each."""
        return draw_passages(self.materials, step)

    def describe(self, drawn: Sequence[DrawnPassage]) -> Row:
        """How many passages."""
        return {"memories": len(drawn), "chunks": 1}

    def measure(
        self, mine: Sequence[DrawnPassage], drawn: Sequence[DrawnPassage]
    ) -> Iterator[Share]:
        """The mean over all of a step's questions is the loss; each passage is a share."""
        n_drawn = sum(len(passage.asked) for passage in drawn)
        for passage in mine:
            text = passage.passage.text
            exercises = [
                Exercise(
                    self.prompts.mark(text, span),
                    self.prompts.question(question)[:_LONGEST_QUESTION],
                )
                for span, question in passage.asked
            ]
            with adapted(self.causal, self.network.generated(), 1.0):
                logits = predict_behind(self.causal, self.prompts.passage(text), exercises)
            loss = measure_loss(logits, exercises)
            figures = [
                Figure("answers", value, right)
                for value, right in zip(loss.losses.tolist(), loss.right.tolist(), strict=True)
            ]
            yield Share(loss.total * (len(exercises) / n_drawn), tuple(figures))

    def write(self, folder: Path) -> None:
        """Put the adapter's files into an empty folder."""
        content = AdapterContent(
            self.network.weights(self.config.base), self.config.n_layers, None, name="writer"
        )
        written = write_adapter(content, folder / "adapter")
        for path in written.iterdir():
            path.replace(folder / path.name)
        written.rmdir()


def predict_behind(causal: Any, before: Sequence[int], exercises: Sequence[Exercise]) -> Tensor:
    """Logits (rows, vocabulary) where answers are predicted, all exercises behind one beginning.

    They stand in one sequence, and none sees another.
    """
    device = next(causal.parameters()).device
    packed = pack_exercises([exercises], before, pad=0).to(device)
    hidden = causal.model(
        input_ids=packed.ids,
        position_ids=packed.positions,
        attention_mask=packed.mask,
        use_cache=False,
    ).last_hidden_state
    return read_out(causal, hidden.flatten(0, 1)[torch.cat(packed.rows)])


def draw_passages(materials: Materials[Any], step: int) -> list[DrawnPassage]:
    """The passages of one step: source by weight, passage and questions by chance. What is drawn
    depends on seed and step alone."""
    recipe = materials.recipe
    chance = random.Random(f"{recipe.seed}:{step}")
    length = chance.choices(recipe.lengths, [length.weight for length in recipe.lengths])[0]
    pools = materials.pools[length.tokens]
    drawn: list[DrawnPassage] = []
    for _ in range(length.memories * _MOST_TRIES):
        pool = chance.choices([pool for _, pool in pools], [weight for weight, _ in pools])[0]
        passage = pool[chance.randrange(len(pool))]
        asked = list(place_answers(passage))
        chance.shuffle(asked)
        if asked:
            drawn.append(DrawnPassage(passage, tuple(asked[: length.questions])))
        if len(drawn) == length.memories:
            return drawn
    raise RecipeError(
        "the data hold next to no questions whose answers stand in their documents",
        hint="a writer learns from rows with doc, question and answers",
    )


def place_answers(passage: Passage) -> Iterator[tuple[Span, str]]:
    """Questions of a passage, each with its answer's place, where that is the only one."""
    for question, answer in passage.questions:
        places = list(find_answer((question, answer))(passage.text))
        if len(places) == 1:
            yield Span(*places[0].span()), question


def gather_writer(recipe: Recipe, network: OpenNetwork[Any]) -> Materials[Any]:
    """Passages with questions, and a writer for the network's base; raises D2LError."""
    if any(length.chunks != 1 for length in recipe.lengths):
        raise RecipeError("a question writer reads one passage at a time", hint="set chunks = 1")
    base = network.base
    shapes = tuple((name, *base.family.module_shape(base.config, name)) for name in MODULES)
    config = WriterConfig(
        network.config.base, recipe.writer.rank, int(base.config.num_hidden_layers), shapes
    )
    return gather_documents(recipe, network, config, minimum=_MIN_TOKENS)


def count_writer(materials: Materials[Any]) -> list[Row]:
    """What each source gives for each length; raises where there is nothing to ask."""
    draw_passages(materials, 0)
    return [
        {
            "source": source.path,
            "tokens": tokens,
            "passages": len(passages),
            "questions": sum(len(passage.questions) for passage in passages),
        }
        for tokens, pool in materials.pools.items()
        for source, (_, passages) in zip(materials.recipe.sources, pool, strict=True)
    ]


def prepare_writer(materials: Materials[Any], out: Path, team: Team) -> WriterLearner:
    """Load the base, and begin a LoRA or go on from one; raises D2LError."""
    del out  # nothing is kept beside the run
    recipe = materials.recipe
    dtype = getattr(torch, recipe.precision)
    causal = load_causal(materials.base, device=team.device, dtype=dtype)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(recipe.seed)
        network = WriterLora(materials.config)
    if recipe.writer.adapter is not None:
        folder = Path(recipe.writer.adapter)
        try:
            network.take(read_adapter(folder))
        except ShapeError as error:
            raise RecipeError(
                f"writer: adapter is {str(folder)!r}: {error.message}",
                hint=f"name a writer's adapter of rank {recipe.writer.rank} for the same base",
            ) from error
    prompts = WriterPrompts(make_chat(materials.tokenizer))
    prepared = team.prepare(network.to(team.device))
    return WriterLearner(prepared, materials.config, causal, prompts, materials)
