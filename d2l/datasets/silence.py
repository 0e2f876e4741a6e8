"""Refusals: the sentence that networks learn, and the sentences by which other models refuse."""

import re

#: The answer that networks are trained to give where the document has none; d2l says it, too, where
#: no part answers. Parts are weighed by the probability of its first token, which is "The" alone:
#: right answers can begin with the same token, and are then held back.
SILENCE = "The document does not say."
#: Text that people and programs get in its place: a refusal is no statement about the document.
NOT_FOUND = "Not found."
#: System text for bases that answer without training; `--system` replaces it.
INSTRUCTION = (
    "Answer the question from the text alone, in the language of the question. If the text does "
    f'not answer it, say "{SILENCE}"'
)

#: Behind a question that wants a few words, and behind others: without them, a base answers in a
#: sentence. In the system text, the wish for all steps made short answers refusals.
FEW_WORDS = " Answer in a few words."
IN_FULL = (
    " Be complete: give every step, item, key, name and number that the text has for the answer."
)
TOPICS = " Name the main topics, and what each is about."  # of an overview, all of which repeats it

_NOT = r"(?:does not|doesn't|do not|don't|did not|didn't|has not|hasn't|never)"
_SAID = (
    r"(?:mentioned|stated|specified|given|provided|known|said|disclosed|indicated|included|found)"
)
_TEXT = (
    r"(?:document|text|passage|article|context|page|note|section|paragraph|excerpt|source|story"
    r"|manual|handbook|information)"
)
#: Searched for in the first sentence of an answer, in lower case with straight apostrophes.
_PATTERNS = (
    # "The document does not say", "It doesn't mention who", "The text provided does not specify it"
    rf"\b(?:{_TEXT}|it|this)\b(?: \w+){{0,4}} {_NOT} (?:explicitly |directly |actually )?"
    r"(?:say|mention|state|specify|provide|indicate|tell|answer|give|disclose|reveal|contain"
    r" (?:any |the |this |that |enough )?(?:information|mention|answer|details?))",
    rf"\bnothing (?:is said|about (?:it|this|that)) in the (?:\w+ )?{_TEXT}",
    # "Not mentioned.", "It is not specified in the text", "The name isn't given in the document"
    r"^not (?:mentioned|stated|specified|given|provided|known|disclosed|indicated|answerable"
    r"|found)\b",
    r"(?:\bnot|n't) (?:explicitly |directly |actually )?(?:mentioned|stated|specified)"
    r"(?: (?:here|there))?$",
    rf"(?:\bnot|n't) (?:\w+ ){{0,2}}{_SAID} (?:\w+ )?(?:in|by) (?:the|this|that|your) "
    rf"(?:\w+ )?{_TEXT}",
    # "There is no information about it", "No mention of that"
    r"^(?:there (?:is|are|was|were) )?no (?:\w+ )?(?:information|mention|answer|details?)"
    r"(?: (?:is|are|was|were|about|on|of|for|in|given|available|provided|regarding)\b|$)",
    # "I do not know", "I'm not sure", "I cannot answer that", "I don't have any information"
    r"^(?:well, |but |as an ai(?: language model)?, )?(?:i|we) (?:really )?(?:do not|don't) "
    r"(?:really )?(?:know|have)\b",
    r"^(?:as an ai(?: language model)?, )?(?:i am|i'm) (?:not (?:sure|certain|aware|able)"
    r"|unable)\b",
    r"^(?:as an ai(?: language model)?, )?(?:i|we) (?:cannot|can not|can't|could not|couldn't) "
    r"(?:answer|find|tell|say|determine|provide|assist|help|see)\b",
    r"\b(?:cannot|can not|can't|could not|couldn't) be (?:answered|determined|found|inferred)\b",
    r"^(?:that |this |it |the answer )?(?:is )?(?:unknown|unanswerable)$",
    r"^n/a$",
)
_SILENT = re.compile("|".join(_PATTERNS))
_APOLOGY = re.compile(
    r"^(?:(?:i'm|i am|we're|we are) )?(?:sorry|apologies|i apologize)\b[,.!;: ]*(?:but\b ?)?"
)
#: In an answer in lower case; "..." ends no sentence.
_SENTENCE_END = re.compile(r"(?<=[a-z0-9\"')][.!?])\s+|\n")


def is_silence(answer: str) -> bool:
    """True if an answer is empty, or refuses: the answer is missing, or not known.

    The first sentence decides, without an apology: an answer that then adds "the document does not
    say more" is an answer. English only, like the networks and their questions.
    """
    text = answer.replace("\u2019", "'").lower()
    text = _APOLOGY.sub("", text.strip(" \t\n\"'*"))
    first = _SENTENCE_END.split(text, maxsplit=1)[0]
    first = " ".join(first.split()).rstrip(" .!?\"'*")
    return not first or _SILENT.search(first) is not None
