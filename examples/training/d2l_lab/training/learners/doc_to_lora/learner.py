"""Doc-to-LoRA network in training: prompts for student and teacher, its loss, its checkpoint.

The teacher is the frozen base with the documents in its prompt; the student is the same base
without them, with the network's LoRA. Both get the data's own answers token by token: to train as
the public networks were, let the answers in the data be the base's own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2l.bases.activations import ActivationEncoder
from d2l.bases.chat import Chat, make_chat
from d2l.bases.models import BaseFiles, load_causal, load_frozen
from d2l.bases.tokenizers import load_tokenizer
from d2l.errors import RecipeError
from d2l.hypernets.doc_to_lora.network import DocToLora, DocToLoraConfig
from d2l.hypernets.formats import native
from d2l.hypernets.network import Network
from d2l.hypernets.networks import load_hypernet
from d2l_lab.training.learners.distributed import Team
from d2l_lab.training.learners.document_data import Asked, Drawn, Mixture
from d2l_lab.training.learners.forward import Generated, adapted, predict
from d2l_lab.training.learners.learner import Figure, LossShare, Materials, Row, gather_documents
from d2l_lab.training.learners.recipes import Recipe

#: The shortest passage, in tokens.
MIN_TOKENS = 16
#: Parts of the base's window: documents in the teacher's prompt, a question, an answer.
_DOCUMENTS_PART, _QUESTION_PART, _ANSWER_PART = 0.7, 0.1, 0.1
#: The public recipe's outline in our own words: documents, what to do with them, the question.
_TEACHER = (
    "# Provided Information\n{documents}\n\n---\n\n"
    "Use the information above where it bears on the user input below, follow it where it is an "
    "instruction, and ignore it otherwise.\n\n# User Input\n{question}"
)


#: Tokens of the teacher in a target.
TEACHER_TOKENS = 16
#: A teacher's likeliest tokens at each token of an answer, and their log-probabilities, (tokens, k)
#: each. Not normalized again: other tokens have no gradient.
Target = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class DocToLoraLearner:
    """Learner: a Doc-to-LoRA network on its frozen base, one document's answers at a time."""

    network: DocToLora
    causal: Any
    read: ActivationEncoder
    encode: Chat  # of a chunk for the network's reader
    chat: Chat
    mixture: Mixture

    def draw(self, step: int) -> list[Drawn]:
        """Draw the documents of a step that have questions; several chunks count as one."""
        return [memory for memory in self.mixture.draw(step) if memory.asked]

    def describe(self, drawn: Sequence[Drawn]) -> Row:
        """Count the documents and the chunks of each."""
        return {"memories": len(drawn), "chunks": len(drawn[0].passages)}

    def measure(self, mine: Sequence[Drawn], drawn: Sequence[Drawn]) -> Iterator[LossShare]:
        """Measure shares of the loss, the mean over a step's documents: a share for each."""
        for memory in mine:
            asked = [item for item in memory.asked if isinstance(item, Asked)]
            questions = [self._cut(item.question, _QUESTION_PART) for item in asked]
            answers = [self._answer(item) for item in asked]
            documents = "\n\n".join(passage.text for passage in memory.passages)
            teacher = [
                self.chat.ask(_TEACHER.format(documents=documents, question=question))
                for question in questions
            ]
            with torch.no_grad():
                targets = [take_target(row) for row in predict(self.causal, teacher, answers)]
            generated = generate(
                self.network, [self.read(self.encode.ask(p.text)).hidden for p in memory.passages]
            )
            with adapted(self.causal, generated, self.network.config.scale):
                student = [self.chat.ask(question) for question in questions]
                logits = predict(self.causal, student, answers)
            l1 = self.mixture.recipe.doc_to_lora.generated_l1
            loss, losses = measure_document(logits, targets, generated, l1=l1)
            figures = [
                Figure("answers", value, _share_right(row, answer))
                for value, row, answer in zip(losses.tolist(), logits, answers, strict=True)
            ]
            yield LossShare(loss / len(drawn), tuple(figures))

    def _answer(self, asked: Asked) -> tuple[int, ...]:
        ids = self.chat.tokenizer.encode(self._cut(asked.answer, _ANSWER_PART))
        return (*ids, self.chat.end_token) if asked.complete else tuple(ids)

    def _cut(self, text: str, part: float) -> str:
        """Cut a text to the beginning that fits into a part of the base's window."""
        ids = self.chat.tokenizer.encode(text)
        most = int(self.causal.config.max_position_embeddings * part)
        return text if len(ids) <= most else self.chat.tokenizer.decode(ids[:most])

    def write(self, folder: Path) -> None:
        """Write config.json and model.safetensors into an empty folder."""
        config = self.network.config
        tensors = {name: t.detach().cpu() for name, t in self.network.state_dict().items()}
        native.write_folder(folder, config.kind, config.to_json(), tensors)


def _share_right(logits: torch.Tensor, answer: Sequence[int]) -> float:
    """Compute the share of tokens that are the likeliest in logits (tokens, vocabulary)."""
    wanted = torch.tensor(answer, device=logits.device)
    return float((logits.detach().argmax(dim=-1) == wanted).float().mean())


def check_doc_to_lora(config: DocToLoraConfig, recipe: Recipe, base: BaseFiles) -> None:
    """Refuse recipes that do not fit this kind of network; raises RecipeError."""
    if recipe.fresh:
        raise RecipeError(
            f"fresh is true, and a {config.kind} network is not begun anew",
            hint="set fresh = false to train the checkpoint further",
        )
    most = int(base.config.max_position_embeddings * _DOCUMENTS_PART)
    for length in recipe.lengths:
        if length.chunks * length.tokens > most:
            raise RecipeError(
                f"a length has {length.chunks} x {length.tokens} tokens, and the teacher, which "
                f"reads them at once, takes at most {most}"
            )


def gather_doc_to_lora(
    recipe: Recipe, network: Network[DocToLoraConfig]
) -> Materials[DocToLoraConfig]:
    """Gather the passages of a recipe for a Doc-to-LoRA network; raises D2LError."""
    check_doc_to_lora(network.config, recipe, network.base)
    return gather_documents(recipe, network, network.config, minimum=MIN_TOKENS)


def prepare_doc_to_lora(
    materials: Materials[DocToLoraConfig], out: Path, team: Team
) -> DocToLoraLearner:
    """Load the base, its reader and the network; raises D2LError."""
    del out  # this kind stores nothing beside the run
    recipe, config = materials.recipe, materials.config
    dtype = getattr(torch, recipe.precision)
    reader = (
        materials.base if config.encoder is None else materials.network.find_other(config.encoder)
    )
    # Loaded apart from the base: its upper layers are left out, and the final norm follows.
    n_layers = config.reading.n_layers
    encoder = load_frozen(reader, device=team.device, dtype=dtype, n_layers=n_layers)
    causal = load_causal(materials.base, device=team.device, dtype=dtype)
    network = load_hypernet(materials.source, device="cpu")  # in fp32, which training needs
    assert isinstance(network, DocToLora)
    tokenizer = load_tokenizer(reader.folder)
    template = tokenizer.document_template(reader.family.document_template)
    return DocToLoraLearner(
        team.prepare(network),
        causal,
        ActivationEncoder(encoder, config.reading),
        Chat(template, -1, tokenizer),  # a document is read, never answered
        make_chat(materials.tokenizer),
        Mixture(materials.pools, recipe, recipe.doc_to_lora),
    )


def take_target(logits: Tensor, k: int = TEACHER_TOKENS) -> Target:
    """Take a target from a teacher's logits (tokens, vocabulary)."""
    best = logits.to(torch.float32).log_softmax(dim=-1).topk(min(k, logits.shape[-1]), dim=-1)
    return best.indices, best.values


def distill(logits: Tensor, target: Target) -> Tensor:
    """Compute the loss of each token: −Σ_j p_j · log q_j over the teacher's k tokens: (tokens,).

    `logits`: (tokens, vocabulary); q is the softmax over all of them. The minimum, with q the
    teacher's distribution, is its entropy: so this is about the KL divergence plus a constant.
    """
    log_probs = logits.to(torch.float32).log_softmax(dim=-1)
    ids, wanted = target
    weights = wanted.to(torch.float32).exp()
    return -(weights * log_probs.gather(-1, ids)).sum(dim=-1)


def generate(network: DocToLora, chunks: Sequence[Tensor]) -> Generated:
    """Generate the LoRA of a document, chunks stacked along rank and the bias last, as `concat`
    merges them; gradients flow to the network. `chunks`: hidden (layers, tokens, hidden) each."""
    # A clone: the reader's tensors come from inference mode, which autograd refuses.
    parts: list[Generated] = [network(hidden.clone()) for hidden in chunks]
    if network.config.use_bias:
        names = network.config.target_modules
        parts.append({name: (network.bias_A[name], network.bias_B[name]) for name in names})
    return {
        name: (
            torch.cat([part[name][0] for part in parts], dim=1),
            torch.cat([part[name][1] for part in parts], dim=1),
        )
        for name in network.config.target_modules
    }


def measure_document(
    logits: Sequence[Tensor], targets: Sequence[Target], generated: Generated, *, l1: float
) -> tuple[Tensor, Tensor]:
    """Measure a document's loss, and that of each answer, without a gradient: (), (answers,).

    Mean over an answer's tokens, then over answers; plus `l1` times the mean over modules of mean
    |A| + mean |B|. A batch's loss is the mean over its documents.
    """
    answers = torch.stack([distill(*pair).mean() for pair in zip(logits, targets, strict=True)])
    sizes = torch.stack([a.abs().mean() + b.abs().mean() for a, b in generated.values()])
    return answers.mean() + l1 * sizes.mean(), answers.detach()
