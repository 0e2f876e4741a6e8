"""A base's chat template around one user's text, and the token that ends its answers."""

from dataclasses import dataclass
from typing import Any

from d2l.bases.families import DocumentTemplate
from d2l.bases.load_errors import quiet_transformers
from d2l.bases.tokenizers import BaseTokenizer
from d2l.errors import BaseModelError

_MARK = "\u2042text\u2042"


@dataclass(frozen=True)
class Chat:
    """A base's chat template around one user's text, and the token that ends its answers."""

    template: DocumentTemplate
    end_token: int
    tokenizer: BaseTokenizer

    def ask(self, text: str) -> tuple[int, ...]:
        """Token ids of a prompt."""
        return self.tokenizer.encode_template(self.template, text).ids

    def ask_ends(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids of a prompt before and after the text."""
        return self.tokenizer.affixes(self.template)


def make_chat(tokenizer: BaseTokenizer) -> Chat:
    """Take the base's own chat template apart around a user's text; raises BaseModelError."""
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
    """Find the token that ends an answer for a transformers tokenizer: that of its chat template,
    else the end of a text; None if it has neither."""
    answer = {"role": "assistant", "content": _MARK}
    with quiet_transformers():
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "?"}, answer], tokenize=False
        )
    return pick_end(tokenizer, str(text).rpartition(_MARK)[2])


def pick_end(tokenizer: Any, behind: str) -> int | None:
    """Pick the token that ends an answer from the text `behind` it, if that is a control token,
    else the end of a text."""
    with quiet_transformers():
        ids = tokenizer(behind, add_special_tokens=False)["input_ids"][:1]
    control = tokenizer.added_tokens_decoder
    ends = [n for n in ids if n in control and control[n].special]
    end = ends[0] if ends else tokenizer.eos_token_id
    return None if end is None else int(end)
