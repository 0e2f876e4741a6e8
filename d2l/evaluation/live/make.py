"""Adapter + document → what a live check expects: sentences of the document to go on with.

The adapter answers in every state, in memory; where there is no document, general questions do,
since an adapter changes answers to them, too.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from peft.helpers import rescale_adapter_scale

from d2l.adapters.info import WEIGHTS
from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.evaluation.live.expectations import Expectations, Expected, Question
from d2l.evaluation.live.states import STATES, State
from d2l.evaluation.originals import Stretch
from d2l.evaluation.selftest.passages import choose_passages, find_passages
from d2l.evaluation.selftest.selftest import WORDING
from d2l.files.cache import file_digest
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.likelihood import answer_greedily, token_distributions

N_QUESTIONS = 5
#: Tokens of an answer, and first tokens that are kept: as many as OpenAI's interface tells.
N_TOKENS, N_TOP = 8, 20
_GENERAL = (
    "What is this about?",
    "Which number matters here?",
    "Who made it?",
    "Where is it?",
    "What must not be forgotten?",
)


def make_expectations(
    adapted: AdaptedModel, stretches: Sequence[Stretch], adapter: Path
) -> Expectations:
    """Ask a loaded adapter in every state; `stretches` are of its document, if it is at hand."""
    passages = choose_passages(find_passages(stretches), N_QUESTIONS)
    asked = [WORDING.format(passage.given) for passage in passages]
    texts = [*asked, *_GENERAL][:N_QUESTIONS]
    by_state = {name: _answer_all(adapted, texts, state) for name, state in STATES.items()}
    return Expectations(
        adapter_sha256=file_digest(adapter / WEIGHTS),
        max_tokens=N_TOKENS,
        questions=tuple(
            Question(text=text, expected={name: rows[n] for name, rows in by_state.items()})
            for n, text in enumerate(texts)
        ),
    )


def list_stretches(documents: Sequence[Document], chunks: Sequence[Chunk]) -> list[Stretch]:
    """What of the documents was compiled, by chunk where chunks know their characters."""
    named = {document.name: document for document in documents}
    known = [(chunk, chunk.span) for chunk in chunks if chunk.span is not None]
    if len(known) < len(chunks):
        return [Stretch(document, None, 0, len(document.text)) for document in documents]
    return [Stretch(named[chunk.document], chunk.index, *span) for chunk, span in known]


def _answer_all(adapted: AdaptedModel, texts: Sequence[str], state: State) -> list[Expected]:
    prompts = [_make_prompt(adapted, text, state) for text in texts]
    tokenizer, end = adapted.base_tokenizer, adapted.end_token()
    with _at_strength(adapted, state.strength):
        answers = answer_greedily(
            adapted.model, prompts, max_tokens=N_TOKENS, batch=N_QUESTIONS, end=end, pad=end
        )
        firsts = [
            rows[0].topk(min(N_TOP, rows.shape[-1]))  # of (tokens, vocabulary)
            for rows in token_distributions(
                adapted.model, prompts, [[end]] * len(prompts), batch=N_QUESTIONS, pad=end
            )
        ]
    return [
        Expected(
            answer=str(tokenizer.decode(answer, skip_special_tokens=True)).strip(),
            top=tuple(
                (tokenizer.decode([token]), round(value, 4))
                for token, value in zip(first.indices.tolist(), first.values.tolist(), strict=True)
            ),
        )
        for answer, first in zip(answers, firsts, strict=True)
    ]


def _make_prompt(adapted: AdaptedModel, text: str, state: State) -> list[int]:
    """The prompt as a server makes it. The other template of an adapter with an opening is the
    base's; that of one without an opening is none at all."""
    turns = [{"role": "user", "content": text}]
    if state.own_template:
        return adapted.prompt_turns(turns)
    if adapted.opening:
        return adapted.prompt_turns(turns, alone=True)
    return list(adapted.base_tokenizer(text)["input_ids"])


@contextlib.contextmanager
def _at_strength(adapted: AdaptedModel, strength: float) -> Iterator[None]:
    """The model with its adapter so many times as strong."""
    change: AbstractContextManager[None] = contextlib.nullcontext()
    if strength == 0:
        change = adapted.model.disable_adapter()
    elif strength != 1:
        change = rescale_adapter_scale(adapted.model, strength)
    with change:
        yield
