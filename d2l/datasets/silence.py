"""What is said where a document does not answer: the sentence that networks learn, and refusals.

Text in, a truth value out.
"""

import re

#: What an adapter is trained to say where the document does not answer.
SILENCE = "The document does not say."

_NOT = r"(?:does not|doesn't|do not|don't|did not|didn't|has not|hasn't|never)"
_SAID = (
    r"(?:mentioned|stated|specified|given|provided|known|said|disclosed|indicated|included|found)"
)
_TEXT = (
    r"(?:document|text|passage|article|context|page|note|section|paragraph|excerpt|source|story"
    r"|manual|handbook|information)"
)
#: Each is looked for in the first sentence of an answer, in lower case with straight apostrophes.
_PATTERNS = (
    # "The document does not say", "It doesn't mention who", "The text provided does not specify it"
    rf"\b(?:{_TEXT}|it|this)\b(?: \w+){{0,4}} {_NOT} (?:explicitly |directly |actually )?"
    r"(?:say|mention|state|specify|provide|indicate|tell|answer|give|disclose|reveal|contain"
    r" (?:any |the |this |that |enough )?(?:information|mention|answer|details?))",
    rf"\bnothing (?:is said|about (?:it|this|that)) in the (?:\w+ )?{_TEXT}",
    # "Not mentioned.", "It is not specified in the text", "The name isn't given in the document"
    r"^not (?:mentioned|stated|specified|given|provided|known|disclosed|indicated|answerable)\b",
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
#: Of an answer in lower case, in which three points end nothing; those of documents are others.
_SENTENCE_END = re.compile(r"(?<=[a-z0-9\"')][.!?])\s+|\n")


def is_silence(answer: str) -> bool:
    """Whether an answer says that the answer is not there, or is not known, or says nothing at all.

    Its first sentence counts, a word of apology left out: who answers and adds that the document
    does not say more has answered. English only, as the networks and their questions are.
    """
    text = answer.replace("\u2019", "'").lower()
    text = _APOLOGY.sub("", text.strip(" \t\n\"'*"))
    first = _SENTENCE_END.split(text, maxsplit=1)[0]
    first = " ".join(first.split()).rstrip(" .!?\"'*")
    return not first or _SILENT.search(first) is not None
