"""Selectors of style sheets, matched in one pass over a page.

Not cssselect2: it walks up the tree for each combinator, so time grows with the depth of the page
to the power of their number. Selectors with unknown syntax match without it, and are not sure.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

COMBINATORS = (" ", ">", "+", "~")
#: Classes that scripts remove from the page.
WITHOUT_SCRIPTS = ("no-js", "nojs")
#: Specificity of a selector with unknown syntax: the highest.
ANY_SPECIFICITY = (9, 9, 9)

Specificity = tuple[int, int, int]


class Subject(NamedTuple):
    """An element's properties for selectors."""

    tag: str
    id: str
    classes: frozenset[str]
    attributes: tuple[tuple[str, str], ...]
    is_first: bool
    is_last: bool
    is_root: bool
    is_checked: bool


#: Pseudo-classes; without a pointer, no element has the state "hover" and the like.
STATES: dict[str, Callable[[Subject], bool]] = {
    "root": lambda subject: subject.is_root,
    "first-child": lambda subject: subject.is_first,
    "last-child": lambda subject: subject.is_last,
    "only-child": lambda subject: subject.is_first and subject.is_last,
    "checked": lambda subject: subject.is_checked,
    **dict.fromkeys(
        ("hover", "active", "visited", "focus", "focus-visible", "focus-within", "target"),
        lambda _: False,
    ),
}
PARTS = frozenset((
    "before", "after", "first-line", "first-letter", "selection", "marker", "placeholder",
    "backdrop", "file-selector-button",
))  # fmt: skip
#: How the value of an attribute is compared.
OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda value, other: value == other,
    "~=": lambda value, other: other in value.split(),
    "|=": lambda value, other: value == other or value.startswith(f"{other}-"),
    "^=": lambda value, other: bool(other) and value.startswith(other),
    "$=": lambda value, other: bool(other) and value.endswith(other),
    "*=": lambda value, other: bool(other) and other in value,
}


@dataclass
class Compound:
    """Conditions of a selector on one element."""

    combinator: str = ""  # before it
    tag: str = ""
    id: str = ""
    classes: set[str] = field(default_factory=set)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    is_empty: bool = True

    @property
    def key(self) -> str:
        """Key for finding the compound: only elements with this key can match."""
        if self.id:
            return f"#{self.id}"
        if self.classes:
            return f".{min(self.classes)}"
        if self.attributes:
            name, operator, value = self.attributes[0]
            return f"[{name}={value}" if operator == "=" else f"[{name}"
        return self.tag or "*"

    @property
    def content(self) -> Hashable:
        """The conditions as one value, for comparing compounds."""
        sets = frozenset(self.classes), frozenset(self.attributes), frozenset(self.states)
        return (self.combinator, self.tag, self.id, *sets)

    def matches(self, subject: Subject, attributes: Mapping[str, str]) -> bool:
        """True if an element meets the conditions; `attributes`: those of the subject."""
        if self.tag not in ("", subject.tag) or self.id not in ("", subject.id):
            return False
        if not self.classes <= subject.classes:
            return False
        for name, operator, other in self.attributes:
            value = attributes.get(name)
            if value is None or (operator and not OPERATORS[operator](value, other)):
                return False
        return all(STATES[state](subject) for state in self.states)


@dataclass
class Step:
    """A compound after another step, shared by all selectors with the same beginning."""

    compound: Compound
    before: int  # number of the other step; -1: none
    follows: set[str] = field(default_factory=set)  # combinators
    payloads: dict[int, Any] = field(default_factory=dict)  # by `id`: of selectors that end here


@dataclass
class Selector:
    """Compounds from left to right; `is_sure`: all syntax is known."""

    compounds: list[Compound] = field(default_factory=lambda: [Compound()])
    specificity: Specificity = (0, 0, 0)
    is_sure: bool = True
    is_part: bool = False  # of a part of an element, such as `::before`

    def add(self, token: Any, stream: Iterator[Any]) -> None:
        """Add a token, and the tokens that belong to it."""
        compound = self.compounds[-1]
        if token.type == "whitespace" or token in COMBINATORS:
            self._join(token.value if token.type == "literal" else " ")
            return
        was_empty, compound.is_empty = compound.is_empty, False
        if token.type == "ident" and was_empty:
            compound.tag = token.lower_value
            self._count(0, 0, 1)
        elif token.type == "hash" and token.is_identifier:
            compound.id = token.value
            self._count(1, 0, 0)
        elif token == "." and (name := next(stream, None)) is not None and name.type == "ident":
            compound.classes.add(name.value)
            self._count(0, 1, 0)
            self.is_sure = self.is_sure and name.value not in WITHOUT_SCRIPTS
        elif token == ":":
            self._add_state(next(stream, None), stream)
        elif token.type == "[] block" and (attribute := _read_attribute(token.content)):
            compound.attributes.append(attribute)
            self._count(0, 1, 0)
        elif token != "*":
            self.is_sure = False

    def _join(self, combinator: str) -> None:
        last = self.compounds[-1]
        if not last.is_empty:
            self.compounds.append(Compound(combinator))
        elif combinator != " ":
            self.is_sure = self.is_sure and last.combinator == " "
            last.combinator = combinator if len(self.compounds) > 1 else ""

    def _add_state(self, word: Any, stream: Iterator[Any]) -> None:
        name = getattr(word, "lower_value", getattr(word, "lower_name", ""))
        compound = self.compounds[-1]
        if word == ":":
            name = getattr(next(stream, None), "lower_value", "")
            self.is_part = True
            self.is_sure = self.is_sure and (name in PARTS or name.startswith("-webkit-"))
        elif name in ("before", "after", "first-line", "first-letter"):
            self.is_part = True
        elif name in ("link", "any-link"):
            compound.attributes.append(("href", "", ""))
            self._count(0, 1, 0)
        elif name in STATES and word.type == "ident":
            compound.states.append(name)
            self._count(0, 1, 0)
        else:
            self.is_sure = False

    def _count(self, *more: int) -> None:
        ids, classes, tags = (old + new for old, new in zip(self.specificity, more, strict=True))
        self.specificity = (ids, classes, tags)


def _read_attribute(tokens: Iterable[Any]) -> tuple[str, str, str] | None:
    """Read (name, operator, value) from brackets; None for unknown syntax."""
    words = [token for token in tokens if token.type not in ("whitespace", "comment")]
    if not words or words[0].type != "ident":
        return None
    if len(words) == 1:
        return words[0].lower_value, "", ""
    if len(words) != 3 or words[2].type not in ("ident", "string"):
        return None
    operator = next((name for name in OPERATORS if words[1] == name), "")
    return (words[0].lower_value, operator, words[2].value) if operator else None


def split_at_commas(tokens: Iterable[Any]) -> list[list[Any]]:
    """Split a list at its commas; comments are left out."""
    parts: list[list[Any]] = [[]]
    for token in tokens:
        if token == ",":
            parts.append([])
        elif token.type != "comment":
            parts[-1].append(token)
    return parts


def read_selector(tokens: Iterable[Any]) -> Selector:
    """Read one selector."""
    selector = Selector()
    stream = iter(tokens)
    for token in stream:
        selector.add(token, stream)
    if selector.compounds[-1].is_empty:  # a space at the end, or no selector at all
        if selector.compounds[-1].combinator == " ":
            selector.compounds.pop()
        else:
            selector.is_sure = False
    if not selector.is_sure:
        selector.specificity = ANY_SPECIFICITY
    return selector


class Context(NamedTuple):
    """Numbers of the steps that other elements matched, by the combinator that follows."""

    above: frozenset[int] = frozenset()  # a space, in all ancestors
    parent: frozenset[int] = frozenset()  # ">"
    before: frozenset[int] = frozenset()  # "+", in the element before
    earlier: frozenset[int] = frozenset()  # "~", in all elements before


class Matches(NamedTuple):
    """Payloads of the selectors that match an element, and contexts of elements after it."""

    payloads: tuple[Any, ...]
    inside: Context  # of its first child
    behind: Context  # of its next sibling


class TooMuchWork(Exception):
    """The selectors of a page would take too long."""


class Matcher:
    """Matches all selectors of a page. Equal subjects in equal contexts share their matches, so
    time is linear in the page. `work_left`: steps until TooMuchWork."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._known_steps: dict[tuple[int, Hashable], int] = {}
        self._numbers: dict[str, list[int]] = {}  # by key
        self._classes: set[str] = set()
        self._ids: set[str] = set()
        self._attributes: set[str] = set()
        self._known: dict[tuple[Subject, Context], Matches] = {}
        self.work_left = 0

    def add(self, selector: Selector, payload: Any) -> None:
        """Add a selector, with a payload for the elements that it matches."""
        number = -1
        for compound in selector.compounds:
            if number >= 0:
                self._steps[number].follows.add(compound.combinator)
            key, before = (number, compound.content), number
            number = self._known_steps.setdefault(key, len(self._steps))
            if number < len(self._steps):
                continue
            self._numbers.setdefault(compound.key, []).append(number)
            self._steps.append(Step(compound, before))
            self._classes |= compound.classes
            self._ids.add(compound.id)
            self._attributes.update(name for name, _, _ in compound.attributes)
        self._steps[number].payloads[id(payload)] = payload

    def describe(self, element: Any) -> Subject:
        """Describe an element, as far as the selectors need it."""
        name = element.get("id", "")
        return Subject(
            element.tag,
            name if name in self._ids else "",
            frozenset(self._classes.intersection(element.get("class", "").split())),
            tuple((key, element.get(key)) for key in element.attrib if key in self._attributes),
            element.getprevious() is None,
            element.getnext() is None,
            element.getparent() is None,
            element.get("checked", element.get("selected")) is not None,
        )

    def match(self, element: Any, context: Context) -> Matches:
        """Match an element in its context; raises TooMuchWork."""
        subject = self.describe(element)
        matches = self._known.get((subject, context))
        if matches is None:
            matches = self._known[subject, context] = self._match(subject, context)
        return matches

    def spend(self, work: int) -> None:
        """Count work; raises TooMuchWork."""
        self.work_left -= work
        if self.work_left < 0:
            raise TooMuchWork

    def _match(self, subject: Subject, context: Context) -> Matches:
        keys = ["*", subject.tag, f"#{subject.id}", *(f".{name}" for name in subject.classes)]
        for name, value in subject.attributes:
            keys += (f"[{name}", f"[{name}={value}")
        numbers = [number for key in keys for number in self._numbers.get(key, ())]
        self.spend(1 + len(numbers) + sum(map(len, context)))
        around = dict(zip((" ", ">", "+", "~"), context, strict=True))
        attributes = dict(subject.attributes)
        payloads: dict[int, Any] = {}
        after: dict[str, set[int]] = {combinator: set() for combinator in COMBINATORS}
        for number in numbers:
            step = self._steps[number]
            combinator = step.compound.combinator
            if combinator and step.before not in around[combinator]:
                continue
            if step.compound.matches(subject, attributes):
                self.spend(len(step.payloads))
                payloads.update(step.payloads)
                for follower in step.follows:
                    after[follower].add(number)
        above = context.above | after[" "] if after[" "] else context.above
        earlier = context.earlier | after["~"] if after["~"] else context.earlier
        return Matches(
            tuple(payloads.values()),
            Context(above, frozenset(after[">"])),
            context._replace(before=frozenset(after["+"]), earlier=earlier),
        )
