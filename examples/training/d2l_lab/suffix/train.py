"""Training of the keys and values that end each part, for a base's own keys and values.

A few soft tokens stand behind a page, in all layers; the base stays as it is (KV Packet,
arXiv:2604.13226, distills such tokens; these learn from answers). They learn to answer a page's own
questions, and to refuse those of other pages. Where a whole answer is wanted, they keep the
distribution of the base alone, so that answers do not get shorter.

Pages of `end_pages` and a folder of the base in, `model.safetensors` of the network out.
"""

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from d2l.bases.tokenizers import load_tokenizer
from d2l.bases.turns import read_turns
from d2l.datasets.silence import FEW_WORDS, IN_FULL, INSTRUCTION, SILENCE

#: Text that the soft tokens begin as, which stands behind each part.
PART_END = f'\n\nIf the text above does not answer the question, say "{SILENCE}"\n\n'
_N_STEPS, _RATE, _WARM = 280, 0.02, 20
_N_FIRST = 6  # pages whose mean the soft tokens begin as
_WHOLE_SHARE, _WHOLE_TOKENS, _WHOLE_WEIGHT = 0.15, 24, 2.0
_PLAIN_SHARE = 0.33  # foreign questions without the wish for few words, on pages of whole answers


class Trainer:
    """Trainer of soft tokens: a scaled difference from the states that they begin as."""

    def __init__(self, folder: Path, pages: list[dict[str, Any]]) -> None:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        self.model: Any = model.eval().requires_grad_(False)
        self.tokenizer = load_tokenizer(folder)
        turns, encode = read_turns(self.tokenizer), self.tokenizer.encode_control
        self.lead = encode(turns.lead(INSTRUCTION))
        self.after, self.end = encode(turns.before_answer), encode(turns.answer_end)[:1]
        self.refusal = [*self.tokenizer.encode(SILENCE), *self.end]
        self.states: list[list[Tensor]] = [[] for _ in model.model.layers]
        for layer, own in zip(model.model.layers, self.states, strict=True):
            for name in ("k_proj", "v_proj"):
                module = getattr(layer.self_attn, name)
                module.register_forward_hook(lambda _m, _a, made, own=own: own.append(made[0]))
        ends = [self._read_end(page["page"]) for page in pages[:_N_FIRST]]
        self.start = torch.stack([end for end, _ in ends]).mean(0)  # (2, layers, tokens, width)
        self.scale = torch.stack([scale for _, scale in ends]).mean(0)[:, :, None]
        self.change = nn.Parameter(torch.zeros_like(self.start))

    def read(self, text: str) -> DynamicCache:
        """Read a page behind the lead."""
        cache = DynamicCache()
        ids = torch.tensor([[*self.lead, *self.tokenizer.encode(text)]])
        for own in self.states:
            own.clear()
        with torch.no_grad():
            self.model.model(ids, past_key_values=cache, use_cache=True)
        return cache

    def _read_end(self, text: str) -> tuple[Tensor, Tensor]:
        """Read keys and values of the end behind a page, and the deviation of each channel."""
        self.read(text + PART_END)
        layers = [torch.stack([one.float() for one in own]) for own in self.states]
        states = torch.stack(layers, dim=1)  # (2, layers, tokens, width)
        n_tokens = len(self.tokenizer.encode(PART_END))
        return states[:, :, -n_tokens:], states[:, :, len(self.lead) :].std(dim=2)

    def stack(self, cache: DynamicCache, n_rows: int, *, ended: bool) -> DynamicCache:
        """Repeat a page's cache for several questions; `ended`: with the soft tokens behind it."""
        made, at = DynamicCache(), cache.get_seq_length()
        soft = (self.start + self.scale * self.change).to(torch.bfloat16)
        for layer, own in enumerate(cache.layers):
            keys, values = own.keys, own.values
            if ended:
                heads = [one.view(one.shape[0], keys.shape[1], -1).transpose(0, 1)[None]
                         for one in soft[:, layer]]  # fmt: skip
                positions = torch.arange(at, at + soft.shape[2])[None]
                rotation = self.model.model.rotary_emb(heads[0], positions)
                turned = apply_rotary_pos_emb(heads[0], heads[0], *rotation)[1]
                keys, values = torch.cat([keys, turned], 2), torch.cat([values, heads[1]], 2)
            made.update(*(t.expand(n_rows, -1, -1, -1) for t in (keys, values)), layer)
        return made

    def score(self, cache: DynamicCache, asked: list[list[int]], said: list[list[int]]) -> Tensor:
        """Compute log-probabilities at each token of the answers: (all tokens, vocabulary)."""
        rows, at = [[*a, *s] for a, s in zip(asked, said, strict=True)], cache.get_seq_length()
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        mask = torch.tensor([[1] * (at + len(row)) + [0] * (longest - len(row)) for row in rows])
        states = self.model.model(
            ids,
            past_key_values=cache,
            attention_mask=mask,
            position_ids=torch.arange(at, at + longest).expand(len(rows), -1),
        ).last_hidden_state
        spans = [states[n, len(a) - 1 : len(a) + len(s) - 1]
                 for n, (a, s) in enumerate(zip(asked, said, strict=True))]  # fmt: skip
        result: Tensor = self.model.lm_head(torch.cat(spans)).float().log_softmax(-1)
        return result

    def ask(self, question: str) -> list[int]:
        """Encode a question, up to the answer."""
        return [*self.tokenizer.encode(question), *self.after]

    @torch.no_grad()
    def answer(self, cache: DynamicCache, asked: list[int]) -> list[int]:
        """Answer by the base alone, greedily."""
        own, said = self.stack(cache, 1, ended=False), list[int]()
        ids = torch.tensor([asked])
        while len(said) < _WHOLE_TOKENS and said[-1:] != self.end:
            states = self.model.model(ids, past_key_values=own, use_cache=True).last_hidden_state
            ids = self.model.lm_head(states[:, -1:]).argmax(-1)
            said.append(int(ids))
        return said

    def add_gradients(self, page: dict[str, Any], rng: random.Random) -> float:
        """Add the gradients of one page; returns the loss of its questions."""
        cache, is_whole = self.read(page["page"]), rng.random() < _WHOLE_SHARE
        wishes = ["" if is_whole or rng.random() < _PLAIN_SHARE else FEW_WORDS
                  for _ in page["foreign"]]  # fmt: skip
        asked = [self.ask(question + FEW_WORDS) for question, _ in page["own"]]
        said = [[*self.tokenizer.encode(answer), *self.end] for _, answer in page["own"]]
        shares = [1 / len(page["own"])] * len(asked) + [1 / len(wishes)] * len(wishes)
        pairs = zip(page["foreign"], wishes, strict=True)
        asked += [self.ask(question + wish) for question, wish in pairs]
        said += [self.refusal] * len(wishes)
        found = self.score(self.stack(cache, len(asked), ended=True), asked, said)
        ids = torch.tensor([token for answer in said for token in answer])
        costs = -found.gather(1, ids[:, None])[:, 0].split([len(answer) for answer in said])
        loss = torch.stack([share * c.mean() for share, c in zip(shares, costs, strict=True)]).sum()
        loss.backward()
        if is_whole:
            self._keep_whole(cache, [question for question, _ in page["own"]], rng)
        return float(loss.detach())

    def _keep_whole(self, cache: DynamicCache, questions: list[str], rng: random.Random) -> None:
        """Add the gradients of the divergence from the base's own whole answers."""
        asked = [self.ask(question + rng.choice(("", IN_FULL))) for question in questions]
        said = [self.answer(cache, one) for one in asked]
        kept = [n for n, ids in enumerate(said) if ids[:4] != self.refusal[:4] and len(ids) > 1]
        if not kept:
            return
        asked, said = [asked[n] for n in kept], [said[n] for n in kept]
        with torch.no_grad():
            wanted = self.score(self.stack(cache, len(kept), ended=False), asked, said)
        found = self.score(self.stack(cache, len(kept), ended=True), asked, said)
        divergence = (wanted.exp() * (wanted - found)).sum(-1).mean()
        (_WHOLE_WEIGHT * divergence).backward()


def main(pages_file: Path, folder: Path, target: Path) -> None:
    """Train, and write the end's keys and values: (layers, tokens, heads * dim) each."""
    pages = [json.loads(line) for line in pages_file.read_text("utf-8").splitlines()]
    trainer = Trainer(folder, pages)
    optimizer = torch.optim.Adam([trainer.change], lr=_RATE, betas=(0.9, 0.98))
    for step in range(_N_STEPS):
        warm, cooled = min(1, (step + 1) / _WARM), math.cos(math.pi * step / _N_STEPS)
        optimizer.param_groups[0]["lr"] = _RATE * warm * (0.5 + 0.5 * cooled)
        loss = trainer.add_gradients(pages[step], random.Random(step))
        nn.utils.clip_grad_norm_([trainer.change], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        sys.stdout.write(f"{step} {loss:.3f}\n")
    keys, values = (trainer.start + trainer.scale * trainer.change).detach().to(torch.bfloat16)
    save_file({"keys": keys.contiguous(), "values": values.contiguous()}, target)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
