"""Training of a suffix: some trained keys and values behind those of each page, in all layers.

The base stays as it is (KV Packet, arXiv:2604.13226, distills such tokens; these learn from
answers). They learn to answer a page's own questions, and to refuse those of other pages. Where a
whole answer is wanted, they keep the distribution of the base alone, so that answers do not get
shorter.
"""

import json
import math
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import DynamicCache

from d2l.answer.forward import extend, read_logits
from d2l.answer.torch_engine import decode
from d2l.bases.devices import pick_device
from d2l.bases.models import load_causal
from d2l.bases.turns import read_turns
from d2l.datasets.silence import FEW_WORDS, IN_FULL, SILENCE
from d2l.errors import RecipeError
from d2l.files.atomic import building
from d2l.hypernets.networks import open_network
from d2l.parts.engine import Decoding
from d2l_lab.checkpoints import refuse_checkpoint
from d2l_lab.suffix.pages import Page, draw_pages
from d2l_lab.suffix.recipe import SuffixRecipe

#: Text that the suffix begins as, which stands behind each part.
PART_END = f'\n\nIf the text above does not answer the question, say "{SILENCE}"\n\n'
_WARM_STEPS = 20
_N_FIRST = 6  # pages whose mean the suffix begins as
#: Share of pages with whole answers, their longest answer in tokens, and the weight of their loss.
_WHOLE_SHARE, _WHOLE_TOKENS, _WHOLE_WEIGHT = 0.15, 24, 2.0
_PLAIN_SHARE = 0.33  # foreign questions without the wish for few words, on other pages

Watch = Callable[[int, int, str], None]  # gets the step, all steps, and the loss for people


class Trainer:
    """Trainer of a suffix: a scaled difference from the states that it begins as."""

    def __init__(self, model: Any, tokenizer: Any, lead: Sequence[int], texts: list[str]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer, self.lead = tokenizer, list(lead)
        turns, encode = read_turns(tokenizer), tokenizer.encode_control
        self.after, self.end = encode(turns.before_answer), encode(turns.answer_end)[:1]
        self.refusal = [*tokenizer.encode(SILENCE), *self.end]
        self.attention = [layer.self_attn for layer in model.model.layers]
        self.states: list[list[Tensor]] = [[] for _ in self.attention]
        for attention, own in zip(self.attention, self.states, strict=True):
            for name in ("k_proj", "v_proj"):
                hook = partial(_keep, own)
                getattr(attention, name).register_forward_hook(hook)
        ends = [self._read_end(text) for text in texts]
        self.start = torch.stack([end for end, _ in ends]).mean(0)  # (2, layers, tokens, width)
        self.scale = torch.stack([scale for _, scale in ends]).mean(0)[:, :, None]
        self.change = nn.Parameter(torch.zeros_like(self.start))

    @property
    def suffix(self) -> Tensor:
        """Keys and values, before norm and rotation: (2, layers, tokens, heads * dim)."""
        return (self.start + self.scale * self.change).to(self.model.dtype)

    @torch.no_grad()
    def read(self, text: str, end: str = "") -> DynamicCache:
        """Read a page behind the lead, and an end, encoded apart, behind the page."""
        for own in self.states:
            own.clear()
        ids = self._tensor(
            [[*self.lead, *self.tokenizer.encode(text), *self.tokenizer.encode(end)]]
        )
        cache: DynamicCache = extend(self.model, ids, mask=torch.ones_like(ids), cache=None)[0]
        return cache

    def _tensor(self, rows: list[list[int]]) -> Tensor:
        return torch.tensor(rows, device=self.model.device)

    def _read_end(self, text: str) -> tuple[Tensor, Tensor]:
        """Read keys and values of the end behind a page, and the deviation of each channel."""
        self.read(text, PART_END)
        layers = [torch.stack([one.float() for one in own]) for own in self.states]
        states = torch.stack(layers, dim=1)  # (2, layers, tokens, width)
        n_tokens = len(self.tokenizer.encode(PART_END))
        return states[:, :, -n_tokens:], states[:, :, len(self.lead) :].std(dim=2)

    def stack(self, cache: DynamicCache, n_rows: int, *, ended: bool) -> DynamicCache:
        """Repeat a page's cache for several questions; `ended`: with the suffix behind it."""
        made, at = DynamicCache(), cache.get_seq_length()
        suffix = self.suffix if ended else None
        layers: Any = cache.layers
        for layer, own in enumerate(layers):
            keys, values = own.keys, own.values
            if suffix is not None:
                heads = [
                    one.view(one.shape[0], keys.shape[1], -1).transpose(0, 1)[None]
                    for one in suffix[:, layer]
                ]
                keys = torch.cat([keys, self._rotate(layer, heads[0], at)], dim=2)
                values = torch.cat([values, heads[1]], dim=2)
            keys, values = (t.expand(n_rows, -1, -1, -1) for t in (keys, values))
            made.update(keys, values, layer)
        return made

    def _rotate(self, layer: int, keys: Tensor, at: int) -> Tensor:
        """Turn keys (1, heads, tokens, dim) into those that attention keeps, from position `at`."""
        attention = self.attention[layer]
        if (norm := getattr(attention, "k_norm", None)) is not None:
            keys = norm(keys)
        positions = torch.arange(at, at + keys.shape[2], device=keys.device)[None]
        apply = sys.modules[type(attention).__module__].apply_rotary_pos_emb
        rotated: Tensor = apply(keys, keys, *self.model.model.rotary_emb(keys, positions))[1]
        return rotated

    def score(self, cache: DynamicCache, asked: list[list[int]], said: list[list[int]]) -> Tensor:
        """Compute log-probabilities at each token of the answers: (all tokens, vocabulary)."""
        rows, at = [[*a, *s] for a, s in zip(asked, said, strict=True)], cache.get_seq_length()
        longest = max(map(len, rows))
        ids = self._tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        seen = [[1] * (at + len(row)) + [0] * (longest - len(row)) for row in rows]
        _, states = extend(self.model, ids, mask=self._tensor(seen), cache=cache)
        spans = [
            states[n, len(a) - 1 : len(a) + len(s) - 1]
            for n, (a, s) in enumerate(zip(asked, said, strict=True))
        ]
        return read_logits(self.model, torch.cat(spans)).float().log_softmax(-1)

    def ask(self, question: str) -> list[int]:
        """Encode a question, up to the answer."""
        return [*self.tokenizer.encode(question), *self.after]

    def add_gradients(self, page: Page, rng: random.Random) -> float:
        """Add the gradients of one page; returns the loss of its questions."""
        cache, is_whole = self.read(page.text), rng.random() < _WHOLE_SHARE
        wishes = [
            "" if is_whole or rng.random() < _PLAIN_SHARE else FEW_WORDS for _ in page.foreign
        ]
        asked = [self.ask(question + FEW_WORDS) for question, _ in page.own]
        said = [[*self.tokenizer.encode(answer), *self.end] for _, answer in page.own]
        shares = [1 / len(page.own)] * len(asked) + [1 / len(wishes)] * len(wishes)
        pairs = zip(page.foreign, wishes, strict=True)
        asked += [self.ask(question + wish) for question, wish in pairs]
        said += [self.refusal] * len(wishes)
        log_probs = self.score(self.stack(cache, len(asked), ended=True), asked, said)
        ids = self._tensor([[token for answer in said for token in answer]])
        chosen = -log_probs.gather(1, ids.mT)[:, 0]
        costs = torch.split(chosen, [len(answer) for answer in said])
        loss = torch.stack([share * c.mean() for share, c in zip(shares, costs, strict=True)]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        if is_whole:
            self._keep_whole(cache, [question for question, _ in page.own], rng)
        return float(loss.detach())

    def _keep_whole(self, cache: DynamicCache, questions: list[str], rng: random.Random) -> None:
        """Add the gradients of the divergence from the base's own whole answers."""
        asked = [self.ask(question + rng.choice(("", IN_FULL))) for question in questions]
        said = [self._answer(cache, one) for one in asked]
        kept = [n for n, ids in enumerate(said) if ids[:4] != self.refusal[:4] and len(ids) > 1]
        if not kept:
            return
        asked, said = [asked[n] for n in kept], [said[n] for n in kept]
        with torch.no_grad():
            wanted = self.score(self.stack(cache, len(kept), ended=False), asked, said)
        found = self.score(self.stack(cache, len(kept), ended=True), asked, said)
        divergence = (wanted.exp() * (wanted - found)).sum(-1).mean()
        (_WHOLE_WEIGHT * divergence).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _answer(self, cache: DynamicCache, asked: list[int]) -> list[int]:
        """Answer by the base alone, greedily, with the end token if it comes."""
        own, ids = self.stack(cache, 1, ended=False), self._tensor([asked])
        mask = ids.new_ones((1, own.get_seq_length() + len(asked)))
        past, states = extend(self.model, ids, mask=mask, cache=own)
        logits = read_logits(self.model, states[:, -1])
        decoding = Decoding(_WHOLE_TOKENS)
        steps = decode(self.model, past, mask, logits, decoding, ends=self.end)
        return [step[0].id for step in steps]


def _keep(states: list[Tensor], _module: nn.Module, _inputs: object, made: Tensor) -> None:
    """Keep the first row of a projection's outputs: (tokens, width)."""
    states.append(made[0])


def train_suffix(recipe: SuffixRecipe, out: Path, *, force: bool, watch: Watch) -> Path:
    """Train, and write the network with its suffix as a checkpoint folder; raises D2LError."""
    refuse = partial(refuse_checkpoint, out, force=force)
    refuse()
    network: Any = open_network("own", base=recipe.base, offline=recipe.offline)
    pages = draw_pages(recipe, network.tokenizer)
    if len(pages) < recipe.steps:
        raise RecipeError(
            f"the sources give {len(pages):,} pages for {recipe.steps:,} steps",
            hint="set more pages, or fewer steps",
        )
    device = pick_device(recipe.device)
    model = load_causal(network.base, device=device, dtype=torch.bfloat16)
    texts = [page.text for page in pages[:_N_FIRST]]
    trainer = Trainer(model, network.tokenizer, network.config.read_opening, texts)
    optimizer = torch.optim.Adam([trainer.change], lr=recipe.rate, betas=(0.9, 0.98))
    for step, page in enumerate(pages[: recipe.steps]):
        warm = min(1, (step + 1) / _WARM_STEPS)
        cooled = 0.5 + 0.5 * math.cos(math.pi * step / recipe.steps)
        optimizer.param_groups[0]["lr"] = recipe.rate * warm * cooled
        loss = trainer.add_gradients(page, random.Random(step))
        nn.utils.clip_grad_norm_([trainer.change], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        watch(step + 1, recipe.steps, f"loss {loss:.3f}")
    keys, values = trainer.suffix.detach().cpu()
    config = asdict(replace(network.config, part_end=PART_END))
    with building(out, refuse) as folder:
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")
        tensors = {"keys": keys.contiguous(), "values": values.contiguous()}
        save_file(tensors, folder / "model.safetensors")
        moments = network.files.path / "statistics.safetensors"  # of bases that are built in
        if moments.is_file():
            shutil.copyfile(moments, folder / moments.name)
    return out
