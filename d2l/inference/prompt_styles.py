"""Ways to ask a base about a document in its prompt, and how a document is cut to fit.

Texts in, turns and token ids out; tokenizers and rendering come in as functions.

How many of 60 questions SmolLM2-135M-Instruct (in bf16, on a CPU) answers on documents of at
most 240 tokens, greedily, in 24 tokens, by `contained`; one standard error is about 3.6:

    wording          SQuAD dev   synthetic dev   both
    plain                   18              18     36
    short                   19              21     40
    labeled                 15              22     37
    question-first          16              14     30
    examples                16              15     31
    system                  18              22     40

The default, `short`, is as good as any; `--wording best` tries all of them in every cell.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Turns = list[dict[str, str]]


@dataclass(frozen=True)
class Wording:
    """One way to ask: `user` holds {document} and {question}; without `system`, the base's own."""

    user: str
    system: str | None = None

    def turns(self, document: str, question: str) -> Turns:
        """The conversation that ends with the question."""
        user = {"role": "user", "content": self.user.format(document=document, question=question)}
        return [user] if self.system is None else [{"role": "system", "content": self.system}, user]

    def turns_without_system(self, document: str, question: str) -> Turns:
        """The same for chat templates that know no system turn: its text goes first."""
        turns = self.turns(document, question)
        return [{"role": "user", "content": "\n\n".join(turn["content"] for turn in turns)}]


def fit_document(
    document: str,
    starts: Sequence[int],
    render: Callable[[str], list[int]],
    *,
    window: int,
) -> tuple[list[int], int]:
    """The longest prompt of at most `window` tokens whose document is cut at its end only.

    `starts` are the characters at which the document's tokens begin; `render` makes the prompt of
    a document. Gives (prompt ids, tokens of the document left out).
    """
    room = len(starts)
    prompt = render(document)
    while room > 0 and len(prompt) > window:  # a cut may join other tokens: measure again
        room = max(room - (len(prompt) - window), 0)
        prompt = render(document[: starts[room]])
    return prompt, len(starts) - room


_SHORT = "Answer with a short phrase from the text."
_EXAMPLES = """\
Answer each question with a short phrase from its text.

Text: The bridge at Alden was built in 1931 by the engineer Mara Lind. It is 84 meters long.
Question: Who built the bridge at Alden?
Answer: Mara Lind

Text: Visitors must leave the garden before 19:30. Dogs are allowed on a leash.
Question: When does the garden close?
Answer: 19:30

"""

#: The wordings that `d2l probe --wording` takes. `plain` is the one of `d2l ask --compare`.
WORDINGS: dict[str, Wording] = {
    "plain": Wording("{document}\n\n{question}"),
    "short": Wording("{document}\n\n{question} Answer in a few words."),
    "labeled": Wording(f"{_SHORT}\n\nText: {{document}}\n\nQuestion: {{question}}\nAnswer:"),
    "question-first": Wording(f"{{question}} {_SHORT}\n\nText: {{document}}"),
    "examples": Wording(_EXAMPLES + "Text: {document}\nQuestion: {question}\nAnswer:"),
    "system": Wording(
        "{document}\n\n{question}",
        system="You find answers in texts. You reply with the answer alone, in as few words as "
        "possible, copied from the text.",
    ),
}
