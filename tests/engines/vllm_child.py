"""vLLM in an environment of its own, which has nothing of d2l: lines of JSON in and out."""

import json
import os
import sys
from typing import Any, TextIO

_PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
#: Modules that vLLM adapts in a Llama (lora/utils.py: get_supported_lora_modules).
MODULES = {"embed_tokens", "lm_head", *(f"{name}_proj" for name in _PROJECTIONS)}


def answer(base: str, adapter: str, requests: TextIO, replies: TextIO) -> None:
    """Load a base with an adapter beside it, and answer requests until there are no more.

    A request has a `question` or the `ids` of a prompt. The reply has a text, or the tokens with
    their log-probabilities; with `all`, every token's for the first one.
    """
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    with open(f"{adapter}/chat_template.jinja", encoding="utf-8") as file:
        template = file.read()
    # The kernel for CPUs gathers the weights of each token's adapter: few tokens at a time.
    model = LLM(
        base,
        dtype="float32",
        enforce_eager=True,
        max_model_len=512,
        max_num_seqs=1,
        max_num_batched_tokens=64,
        gpu_memory_utilization=0.1,
        enable_lora=True,
        max_lora_rank=32,
        max_logprobs=-1,
    )
    lora = LoRARequest("doc", 1, adapter)
    for line in requests:
        asked = json.loads(line)
        how: dict[str, Any] = {"lora_request": lora if asked["adapted"] else None}
        how["use_tqdm"] = False
        sampling = SamplingParams(
            temperature=0, max_tokens=asked["n"], logprobs=-1 if asked.get("all") else 0
        )
        if "question" in asked:
            turns = [{"role": "user", "content": asked["question"]}]
            (reply,) = model.chat(turns, sampling, chat_template=template, **how)
            said: Any = reply.outputs[0].text
        else:
            (reply,) = model.generate({"prompt_token_ids": asked["ids"]}, sampling, **how)
            (output,) = reply.outputs
            rows = [{t: entry.logprob for t, entry in row.items()} for row in output.logprobs]
            said = [rows[0][t] for t in range(len(rows[0]))] if asked.get("all") else None
            said = said or [(t, row[t]) for t, row in zip(output.token_ids, rows, strict=True)]
        print(json.dumps(said), file=replies, flush=True)


def judge(cases: list[tuple[str, int]]) -> list[str | None]:
    """Why vLLM refuses each adapter with this --max-lora-rank; None where it does not."""
    from vllm.config.lora import LoRAConfig
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    refused: list[str | None] = []
    for adapter, rank in cases:
        try:
            helper = PEFTHelper.from_local_dir(adapter, 512)
            helper.validate_legal(LoRAConfig(max_lora_rank=rank))
            LoRAModel.from_local_checkpoint(adapter, MODULES, helper, device="cpu")
            refused.append(None)
        except (AssertionError, TypeError, ValueError) as error:
            refused.append(repr(error))
    return refused


if __name__ == "__main__":
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM writes its log on stdout
    if sys.argv[1:]:
        answer(*sys.argv[1:], requests=sys.stdin, replies=replies)
    else:
        print(json.dumps(judge(json.load(sys.stdin))), file=replies)
