"""PEFT on transformers: what the other engines are compared with."""

from collections.abc import Sequence

import torch

from tests.engines.engine import N_GREEDY, Engine, Logits, Scored, quiet


class Peft(Engine):
    """PEFT on transformers."""

    name, package = "peft", "peft"

    def logits(self, ids: Sequence[int]) -> tuple[Logits, Logits]:
        model, prompt = self.names["model"], torch.tensor([list(ids)])
        with torch.inference_mode():
            adapted = model(input_ids=prompt).logits[0, -1]
            with model.disable_adapter():
                alone = model(input_ids=prompt).logits[0, -1]
        return adapted.double().numpy(), alone.double().numpy()

    def greedy(self, ids: Sequence[int]) -> Scored:
        model, prompt = self.names["model"], torch.tensor([list(ids)])
        settings = {"max_new_tokens": N_GREEDY, "do_sample": False, "eos_token_id": self.end}
        with torch.inference_mode(), quiet():
            output = model.generate(
                input_ids=prompt, attention_mask=torch.ones_like(prompt), **settings
            )
        tokens = output[0, len(ids) :].tolist()
        return self._cut(self.score(ids, tokens))

    def score(self, ids: Sequence[int], answer: Sequence[int]) -> Scored:
        """An answer's tokens with their log-probabilities behind a prompt, whoever gave it."""
        whole = torch.tensor([[*ids, *answer]])
        with torch.inference_mode():
            rows = self.names["model"](input_ids=whole).logits[0, len(ids) - 1 : -1]
        scores = rows.double().log_softmax(-1)
        found = scores.gather(1, torch.tensor(answer).reshape(-1, 1)).flatten().tolist()
        return list(zip(answer, found, strict=True))

    def encode(self, question: str) -> list[int]:
        """The prompt of a question, in the adapter's own tokenizer and template."""
        turns = [{"role": "user", "content": question}]
        prompt: list[int] = self.names["tokenizer"].apply_chat_template(
            turns, add_generation_prompt=True, return_dict=False
        )
        return prompt
