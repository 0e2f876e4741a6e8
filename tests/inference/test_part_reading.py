"""Chosen parts are read alone: ranks as an adapter of these chunks, memories joined in order."""

from pathlib import Path
from typing import Any

import pytest
import torch

from d2l.adapters.info import read_info
from d2l.adapters.parts import read_parts
from d2l.adapters.peft_folder import read_adapter
from d2l.adapters.weights import Memory
from d2l.bases.activations import cache_keyword
from d2l.errors import D2LError
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.part_choice import UNANSWERED, PartOptions
from tests import tiny
from tests.compiled import Compiled, compile_tiny, make_document
from tests.inference.test_part_prefix import read_imposed
from tests.loaded import QUESTION, load

pytestmark = pytest.mark.usefixtures("one_thread")
TURNS = [{"role": "user", "content": QUESTION}]


def compile_parts(root: Path, kind: str, **changes: Any) -> Compiled:
    return compile_tiny(root, kind, make_document(), parts=True, chunk_tokens=24, **changes)


def read_logits(asker: AdaptedModel, options: PartOptions) -> tuple[torch.Tensor, Any]:
    """Logits of the first token of an answer, and what was read for it."""
    with asker.reading(TURNS, options) as prompt, torch.no_grad():
        n_before, kept = 0, {}
        if prompt.cache is not None:
            n_before = prompt.cache.get_seq_length()
            kept = {cache_keyword(asker.model.get_base_model()): prompt.cache}
        logits = asker.model(torch.tensor([prompt.ids[n_before:]]), **kept).logits[0, -1]
    return logits, prompt


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("options", [PartOptions(count=2), PartOptions(page="#2")])
def test_parts_of_doc_to_lora_are_an_adapter_of_these_chunks_and_of_the_learned_part(
    family: str, options: PartOptions, tmp_path: Path
) -> None:
    done = compile_parts(tmp_path, family)
    asker = load(done)
    got, prompt = read_logits(asker, options)
    places = prompt.choice.places
    assert len(places) == (options.count or 1)
    made, weights = read_info(done.adapter).provenance, read_adapter(done.adapter)
    assert made is not None
    spans = [made.chunks[n].ranks for n in places] + [made.bias_ranks]
    dense = tiny.make_causal(family)
    with torch.no_grad():
        for name, f in weights.factors.items():
            for start, stop in filter(None, spans):
                delta = weights.scale * f.b[:, start:stop].float() @ f.a[start:stop].float()
                dense.get_submodule(name).weight += delta
        expected = dense(torch.tensor([prompt.ids])).logits[0, -1]
        everything = asker.model(torch.tensor([prompt.ids])).logits[0, -1]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert (everything - expected).abs().max() > 1e-2  # and all of it is on again


def test_memories_are_joined_as_they_stand_in_the_document(tmp_path: Path) -> None:
    done = compile_parts(tmp_path, "seats", tokens_per_seat=6, max_rank=None)
    asker = load(done)
    parts = read_parts(read_info(done.adapter))
    assert parts is not None
    assert parts.read is not None
    got, prompt = read_logits(asker, PartOptions(count=2))
    places = sorted(prompt.choice.places)
    memories = [parts.read(n) for n in places]
    joined = Memory(
        torch.cat([m.keys for m in memories], dim=1).float(),
        torch.cat([m.values for m in memories], dim=1).float(),
    )
    expected = read_imposed(asker.model, joined, prompt.ids)[-1]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_the_answer_cites_and_by_hand_a_page_is_asked_whatever_the_question(
    kind: str, tmp_path: Path
) -> None:
    asker = load(compile_parts(tmp_path, kind))
    cited = asker.answer(TURNS).citations
    assert any("filter" in citation.part.text for citation in cited)
    unknown = [{"role": "user", "content": "Xylophon zugzwang?"}]
    assert asker.answer(unknown).text == UNANSWERED
    with asker.reading(unknown, PartOptions(page="p. 2")) as prompt:
        (*_, source) = [asker.parts.parts.records[n].source for n in prompt.choice.places]
        assert source in ("p. 2", "p. 1-2")
    with (
        pytest.raises(D2LError, match=r"p\. 9"),
        asker.reading(TURNS, PartOptions(page="p. 9")),
    ):
        pass
    with asker.reading(TURNS, PartOptions(whole=True)) as prompt:
        assert prompt.choice is None
