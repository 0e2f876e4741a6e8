"""A base's own chat around one user's text: what stands before and behind, and what ends answers.

Tokenizer in, ids out; knows nothing of what is asked.
"""

from dataclasses import dataclass
from typing import Any

from d2l.bases.families import DocumentTemplate
from d2l.bases.quiet import quiet_transformers
from d2l.bases.tokenizers import BaseTokenizer
from d2l.errors import BaseModelError

_MARK = "\u2042text\u2042"


@dataclass(frozen=True)
class Chat:
    """A base's chat around one user's text: what stands before and after, and what ends answers."""

    template: DocumentTemplate
    end_token: int
    tokenizer: BaseTokenizer

    def ask(self, text: str) -> tuple[int, ...]:
        """Token ids of a prompt."""
        return self.tokenizer.encode_template(self.template, text).ids

    def ask_ends(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids of a prompt before and behind the text."""
        return self.tokenizer.affixes(self.template)


def make_chat(tokenizer: BaseTokenizer) -> Chat:
    """The base's own chat template around a user's text; raises BaseModelError."""
    user, answer = {"role": "user", "content": _MARK}, {"role": "assistant", "content": _MARK}
    asked = tokenizer.render_chat([user], taking="a question")
    answered = tokenizer.render_chat([user, answer], taking="a question", opening=False)
    before, _, after = asked.partition(_MARK)
    end = pick_end(tokenizer.chat, answered.rpartition(_MARK)[2])
    if not after or end is None:
        raise BaseModelError(
            f"{tokenizer.folder}: the chat template does not say how an answer begins and ends",
            hint="use an instruction-tuned base",
        )
    return Chat(DocumentTemplate(before, after), end, tokenizer)


def find_end(tokenizer: Any) -> int | None:
    """The token that ends an answer, of a transformers tokenizer: what its chat template puts
    behind one, else what ends a text. None where neither is said."""
    answer = {"role": "assistant", "content": _MARK}
    with quiet_transformers():
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "?"}, answer], tokenize=False
        )
    return pick_end(tokenizer, str(text).rpartition(_MARK)[2])


def pick_end(tokenizer: Any, behind: str) -> int | None:
    """The same, where the text `behind` an answer is known; only a control token ends one."""
    with quiet_transformers():
        ids = tokenizer(behind, add_special_tokens=False)["input_ids"][:1]
    control = tokenizer.added_tokens_decoder
    found = [n for n in ids if n in control and control[n].special]
    end = found[0] if found else tokenizer.eos_token_id
    return None if end is None else int(end)
