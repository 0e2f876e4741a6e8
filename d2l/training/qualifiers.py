"""An answer as its text gives it → the same with what belongs to it there: "over 19,000".

People who write questions mark as little as answers them, and a network that learns such answers
leaves out what a reader misses. Rules about numbers alone; words in, words out.
"""

import re

_NUMBER = re.compile(r"[\d.,–-]*\d")
_YEAR = re.compile(r"1\d{3}|20\d{2}")
_BEFORE = re.compile(
    r"(?:\b(?:about|almost|approximately|around|at (?:least|most)|(?:fewer|less|more) than|just "
    r"(?:over|under)|nearly|over|roughly|some|under|up to)\s+)?(?:[$£€¥]\s?)?$",
    re.IGNORECASE,
)
_BEHIND = re.compile(
    r"(?:\s?(?:%|°\s?[CFK]?\b)|(?:[\s-](?:hundred|thousand|million|billion|trillion)\b)?"
    r"(?:[\s-](?:per ?cent|percent|years?|months?|weeks?|days?|hours?|minutes?|seconds?|square|"
    r"kilomet(?:er|re)s?|centimet(?:er|re)s?|millimet(?:er|re)s?|met(?:er|re)s?|km²?|cm|mm|m|"
    r"inch(?:es)?|f(?:oo|ee)t|ft|yards?|miles?|mi|acres?|hectares?|kilograms?|kg|grams?|g|"
    r"pounds?|lbs?|tons?|tonnes?|lit(?:er|re)s?|kelvins?|K|volts?|watts?|[kMG]W|[kMG]?Hz|"
    r"dollars?|euros?|people|degrees?(?: (?:Celsius|Fahrenheit))?)\b)*)"
)


def qualify(text: str, answer: str) -> str:
    """The answer with the words around its number in the text; as it is, where it is no number,
    or does not stand in the text once."""
    if not _NUMBER.fullmatch(answer):
        return answer
    found = list(re.finditer(rf"(?<![\w.,–-]){re.escape(answer)}(?![\w–-]|[.,]\d)", text))
    if len(found) != 1:
        return answer
    start, stop = found[0].span()
    before = _BEFORE.search(text, 0, start)
    behind = None if _YEAR.fullmatch(answer) else _BEHIND.match(text, stop)
    first = start if before is None else before.start()
    last = stop if behind is None else behind.end()
    return " ".join(text[first:last].split())
