"""Chosen parts are read alone: ranks as an adapter of these chunks, a memory as if imposed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from d2l.adapters.info import read_info
from d2l.adapters.parts import read_parts
from d2l.adapters.peft_folder import read_adapter
from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.answer.scope import read_question
from d2l.datasets.silence import NOT_FOUND
from d2l.errors import OptionError
from d2l.parts.kept import PartOptions
from tests import asking, tiny
from tests.answer.test_prefix import read_imposed
from tests.asking import judge
from tests.compiled import Compiled, compile_tiny, make_document
from tests.loaded import QUESTION, load

pytestmark = pytest.mark.usefixtures("one_thread")
TURNS = [{"role": "user", "content": QUESTION}]


def compile_parts(root: Path, kind: str, **changes: Any) -> Compiled:
    return compile_tiny(root, kind, make_document(), parts=True, chunk_tokens=24, **changes)


def read_logits(asker: AdaptedModel, options: PartOptions) -> tuple[torch.Tensor, Any]:
    """Logits of the first token of an answer, and what was read for it."""
    start = asker.read(TURNS, AskOptions(parts=options))
    return asking.read_logits(asker, start)[-1], start


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("options", [PartOptions(count=2), PartOptions(page="#2")])
def test_parts_of_doc_to_lora_are_an_adapter_of_these_chunks_and_of_the_learned_part(
    family: str, options: PartOptions, tmp_path: Path
) -> None:
    done = compile_parts(tmp_path, family)
    asker = load(done)
    got, prompt = read_logits(asker, options)
    places = prompt.verdict.indices
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
        expected = dense(torch.tensor([prompt.context.ids])).logits[0, -1]
        everything = asker.model(torch.tensor([prompt.context.ids])).logits[0, -1]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert (everything - expected).abs().max() > 1e-2  # and all of it is on again


def test_a_long_question_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asker, options = load(compile_parts(tmp_path, "seats")), PartOptions(count=3)
    expected, whole = read_logits(asker, options)
    lengths: list[int] = []
    layer = asker.model.get_base_model().model.layers[0]
    layer.register_forward_pre_hook(lambda _, states: lengths.append(states[0].shape[1]))
    monkeypatch.setattr("d2l.answer.forward.PIECE", 4)
    asker.read(TURNS, AskOptions(parts=options))
    assert max(lengths) == 4
    got, prompt = read_logits(asker, options)
    assert prompt.verdict.indices == whole.verdict.indices
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [PartOptions(count=3), PartOptions(page="#1")])
def test_of_memories_that_are_read_side_by_side_the_first_is_read_as_if_alone(
    options: PartOptions, tmp_path: Path
) -> None:
    done = compile_parts(tmp_path, "seats")
    asker, parts = load(done), read_parts(read_info(done.adapter))
    assert parts is not None
    got, prompt = read_logits(asker, options)
    assert len(prompt.verdict.indices) == (options.count or 1)
    memory = parts.read(prompt.verdict.indices[0])
    assert parts.index.opening is not None
    opening = parts.index.opening.ids[: 1 + memory.n_seats]
    rest = asker.prompt_turns(TURNS)[len(asker.opening) :]
    expected = read_imposed(asker.model, memory, [*opening, *rest])[-1]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_the_answer_cites_and_by_hand_a_page_is_always_asked(kind: str, tmp_path: Path) -> None:
    asker = load(compile_parts(tmp_path, kind))
    first = asker.kept.route(read_question(TURNS), PartOptions(1), ()).indices[0]
    assert any(word in asker.kept.records[first].text for word in ("filter", "rinsed"))
    unknown = [{"role": "user", "content": "Xylophon zugzwang?"}]
    refused = asker.answer(unknown)
    assert (refused, refused.citations, refused.found) == (NOT_FOUND, (), False)
    with pytest.MonkeyPatch.context() as patch:
        judge(patch, most_silent=0.0, least_overlap=2.0)
        refused = asker.answer(TURNS)
    assert refused == NOT_FOUND
    closest = refused.citations
    assert closest[0].index == first
    assert (refused.place, refused.supported) == (closest[0].part.place, None)
    assert refused.passage is not None
    assert refused.passage in " ".join(closest[0].part.text.split())
    assert all((cited.score or 0) > 0 for cited in closest)
    by_hand = replace(asker.options, parts=PartOptions(page="p. 2"))
    (cited, *_) = asker.answer(unknown, options=by_hand).citations
    assert cited.part.source in ("p. 2", "p. 1-2")
    with pytest.raises(OptionError, match=r"p\. 9"):
        asker.read(TURNS, AskOptions(parts=PartOptions(page="p. 9")))
    assert not asker.read(TURNS, AskOptions(parts=PartOptions(whole=True))).verdict.indices
