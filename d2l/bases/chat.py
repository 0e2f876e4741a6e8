"""A base's own chat around one user's text: what stands before and behind, and what ends answers.

Tokenizer in, ids out; knows nothing of what is asked.
"""

from dataclasses import dataclass

from d2l.bases.families import DocumentTemplate
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
    """The base's own chat template around a user's text; raises BaseModelError.

    An answer ends with the token that the template puts behind it, else the tokenizer's own.
    """
    user, answer = {"role": "user", "content": _MARK}, {"role": "assistant", "content": _MARK}
    asked = tokenizer.render_chat([user], taking="a question")
    answered = tokenizer.render_chat([user, answer], taking="a question", opening=False)
    before, _, after = asked.partition(_MARK)
    ending = tokenizer.encode_control(answered.rpartition(_MARK)[2])
    end = ending[0] if ending else tokenizer.chat.eos_token_id
    if not after or end is None:
        raise BaseModelError(
            f"{tokenizer.folder}: the chat template does not say how an answer begins and ends",
            hint="use an instruction-tuned base",
        )
    return Chat(DocumentTemplate(before, after), int(end), tokenizer)
