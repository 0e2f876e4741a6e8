"""No pattern of the package takes time without end: each is tried on the worst input for it.

Every pattern in the source is found with `ast`, compiled ones in the modules themselves. Two tests:
of its form (a repeat inside a repeat), and of its time on text made of what it repeats.
"""

import ast
import importlib
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from types import FrameType
from typing import Any

import pytest

PACKAGE = Path(__file__).parents[1] / "d2l"
#: Read documents in a child process with a time limit: their patterns may take the square of a
#: line's length, but no more.
IN_THE_SANDBOX = ("d2l.readers.docx", "d2l.readers.epub",
                  "d2l.readers.html", "d2l.readers.markdown", "d2l.readers.pdf",
                  "d2l.readers.styles")  # fmt: skip
METHODS = ("compile", "match", "fullmatch", "search", "split", "sub", "findall", "finditer")
REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT)
SINGLE = (codes.LITERAL, codes.NOT_LITERAL, codes.IN)
ATOMIC = (codes.POSSESSIVE_REPEAT, codes.ATOMIC_GROUP)
#: Modules whose patterns see so many characters at most: a file's beginning.
HEADS = {"d2l.readers.sniff": 4096}
MANY = 100  # turns of a repeat that count as unbounded
N_SHORT, N_LONG = 40, 40_000  # characters: enough for powers of two, and for squares, to be seen
N_SANDBOX, LIMIT_SANDBOX_S = 20_000, 6.0
LIMIT_S = 2.0  # a good pattern takes milliseconds
#: What repeated text may end in, so that the pattern fails at its end.
ENDS = ("\0", "!", "a\n", "\0x 1")


def list_patterns() -> Iterator[tuple[str, str | bytes, int, str]]:
    """(module, pattern, flags, method) of every pattern that a module holds or spells out."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(("d2l", *path.relative_to(PACKAGE).with_suffix("").parts))
        tree = ast.parse(path.read_text("utf-8"))
        calls = [node for node in ast.walk(tree) if is_pattern_call(node)]
        for call in calls:
            given = call.args[0]
            if call.func.attr != "compile" and isinstance(given, ast.Constant):
                yield name, given.value, 0, call.func.attr
        if any(call.func.attr == "compile" for call in calls):
            module = importlib.import_module(name)
            for variable, value in vars(module).items():
                for pattern in flatten(value):
                    used = re.search(rf"\b{variable}\.(\w+)\(", path.read_text("utf-8"))
                    yield name, pattern.pattern, pattern.flags, used[1] if used else "search"


def flatten(value: Any) -> Iterator["re.Pattern[Any]"]:
    """Patterns in a variable, also those in a tuple of tuples."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from flatten(item)


def is_pattern_call(node: ast.AST) -> bool:
    """Whether a node calls a function of `re` with a pattern."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
        and node.func.attr in METHODS
    )


PATTERNS = sorted(set(list_patterns()), key=repr)


def inner_items(operation: Any, argument: Any) -> list[Any]:
    """The parsed patterns inside an operation."""
    if operation in (*REPEATS, codes.POSSESSIVE_REPEAT):
        return [argument[2]]
    if operation is codes.SUBPATTERN:
        return [argument[3]]
    if operation is codes.BRANCH:
        return list(argument[1])
    if operation in (codes.ASSERT, codes.ASSERT_NOT):
        return [argument[1]]
    return [argument] if operation is codes.ATOMIC_GROUP else []


def is_ambiguous(parsed: Any, *, repeated: bool = False) -> bool:
    """Whether a repeat of no fixed length stands inside an unbounded repeat, so that one text can
    be divided between the two in many ways.

    Beside something that it does not match itself it has its place, as in `(?:-[a-z]+)*`.
    """
    for at, (operation, argument) in enumerate(parsed):
        repeats = operation in REPEATS and argument[1] > max(1, argument[0])
        if repeats and repeated and not has_its_place(parsed, at):
            return True
        unbounded = repeats and argument[1] > MANY
        for inner in inner_items(operation, argument):
            if is_ambiguous(inner, repeated=operation not in ATOMIC and (repeated or unbounded)):
                return True
    return False


def has_its_place(parsed: Any, at: int) -> bool:
    """Whether a repeat of one character stands beside a character that it does not match."""
    body = parsed[at][1][2]
    if len(body) > 1 or body[0][0] not in SINGLE:
        return False
    inside = re.compile(render(body))
    beside = [[item] for n, item in enumerate(parsed) if n != at and item[0] in SINGLE]
    fences = [[c for c in CANDIDATES if re.fullmatch(render(item), c)] for item in beside]
    return any(not any(map(inside.fullmatch, fence)) for fence in fences if fence)


def render(parsed: Any) -> str:
    """A pattern of one character as text: what a repeat's body is, where it is a set."""
    (operation, argument), *_ = list(parsed)
    if operation is codes.IN:
        return "[" + "".join(map(render_set, argument)) + "]"
    if operation is codes.NOT_LITERAL:
        return f"[^{re.escape(chr(argument))}]"
    return re.escape(chr(argument)) if operation is codes.LITERAL else "(?s:.)"


def render_set(item: Any) -> str:
    operation, argument = item
    if operation is codes.NEGATE:
        return "^"
    if operation is codes.RANGE:
        return f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}"
    if operation is codes.CATEGORY:
        kind = str(argument).removeprefix("CATEGORY_")
        letter = kind.removeprefix("NOT_")[0].lower()
        return "\\" + (letter.upper() if kind.startswith("NOT_") else letter)
    return re.escape(chr(argument))


def make_example(parsed: Any) -> str:
    """Some text that a parsed pattern matches, with one turn of each repeat."""
    text = ""
    for operation, argument in parsed:
        if operation is codes.LITERAL:
            text += chr(argument)
        elif operation is codes.IN:
            letters = [chr(letter) for kind, letter in argument if kind is codes.LITERAL]
            item = render([(operation, argument)])
            text += next(c for c in (*letters, *CANDIDATES) if re.fullmatch(item, c))
        elif operation is codes.NOT_LITERAL:
            text += "a" if argument != ord("a") else "b"
        elif operation is codes.ANY:
            text += "a"
        elif operation is codes.BRANCH:
            text += make_example(argument[1][0])
        elif operation in (*REPEATS, codes.POSSESSIVE_REPEAT):
            text += make_example(argument[2]) * max(1, argument[0])
        elif operation is codes.SUBPATTERN:
            text += make_example(argument[3])
        elif operation is codes.ATOMIC_GROUP:
            text += make_example(argument)
    return text


CANDIDATES = [" ", "a", "1", *map(chr, range(33, 0x3000)), "\t", "\n", "漢", "가",
              "\ufe00", "\U000e0000"]  # fmt: skip


def make_pumps(parsed: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """(what comes before, what is repeated) for every unbounded repeat and each of its branches."""
    for at, (operation, argument) in enumerate(parsed):
        here = before + make_example(parsed[:at])
        if operation in (*REPEATS, codes.POSSESSIVE_REPEAT) and argument[1] > MANY:
            bodies = [argument[2]]
            for inner, given in argument[2]:
                bodies += inner_items(inner, given)
            for body in bodies:
                yield here, make_example(body)
            yield here, " "
        for inner in inner_items(operation, argument):
            yield from make_pumps(inner, here)


@contextmanager
def time_limit(what: str, seconds: float = LIMIT_S) -> Iterator[None]:
    """Fail a test that takes too long, by the processor's time: `re` looks for signals while it
    searches."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        pytest.fail(what)

    old = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def worst_texts(pattern: str | bytes, flags: int, n: int) -> Iterator[str]:
    """Texts of about `n` characters that give a pattern the most to try."""
    for before, pump in sorted(set(make_pumps(parse(pattern, flags)))):
        for end in ENDS:
            for start, unit in ((before, pump), (before, pump + " "), ("", before + pump)):
                if unit:
                    yield start + unit * (n // len(unit)) + end


def use(pattern: str | bytes, flags: int, method: str, text: str, seconds: float = LIMIT_S) -> None:
    """Use a pattern on a text in the way that its module does; fails where that takes too long."""
    given = text if isinstance(pattern, str) else text.encode("utf-8", "replace")
    compiled = re.compile(pattern, flags)
    what = f"{pattern!r} takes too long on {text[:60]!r} ({len(text)} characters)"
    with time_limit(what, seconds):
        if method in ("match", "fullmatch"):
            getattr(compiled, method)(given)
        else:
            for _ in compiled.finditer(given):  # type: ignore[call-overload]
                pass


def parse(pattern: str | bytes, flags: int) -> Any:
    """The tree of a pattern, as `re` compiles it."""
    text = pattern if isinstance(pattern, str) else pattern.decode("latin-1")
    return parser.parse(text, flags & ~re.UNICODE)


def test_bad_patterns_are_told_apart_from_good_ones() -> None:
    bad = (r"(a+)+b", r"(?:\s+|<.*?>)*x", r"(?: ?\d{1,8},?)*$", r"(.*)*x", r"(a|b+)*c")
    good = (r"\w+(?:-\w+)*", r"(?>\s+|<(?>.*?>))*+x", r"(?: ?\d,?)*$", r"(?:[.](?=a)[^.]*)*")
    assert all(is_ambiguous(parse(pattern, 0)) for pattern in bad)
    assert not any(is_ambiguous(parse(pattern, 0)) for pattern in good)


@pytest.mark.parametrize(("module", "pattern", "flags", "method"), PATTERNS)
def test_patterns_take_no_power(module: str, pattern: str | bytes, flags: int, method: str) -> None:
    assert not is_ambiguous(parse(pattern, flags)), f"{module}: a repeat inside a repeat"
    for text in worst_texts(pattern, flags, N_SHORT):
        use(pattern, flags, method, text)


@pytest.mark.parametrize(
    ("module", "pattern", "flags", "method"),
    [case for case in PATTERNS if not case[0].startswith(IN_THE_SANDBOX)],
)
def test_a_pattern_outside_the_sandbox_does_not_take_the_square_of_a_line(
    module: str, pattern: str | bytes, flags: int, method: str
) -> None:
    for text in worst_texts(pattern, flags, HEADS.get(module, N_LONG)):
        use(pattern, flags, method, text)


@pytest.mark.parametrize(
    ("pattern", "flags", "method"),
    [case[1:] for case in PATTERNS if case[0].startswith(IN_THE_SANDBOX)],
)
def test_a_pattern_in_the_sandbox_is_bounded(pattern: str | bytes, flags: int, method: str) -> None:
    """The square of a line it may take: the sandbox has a limit of time, but no cube."""
    for text in worst_texts(pattern, flags, N_SANDBOX):
        use(pattern, flags, method, text, LIMIT_SANDBOX_S)
