"""Wishes and the code that grants them, and what else one does with code."""

from collections.abc import Iterator

from banks import NOUNS
from drafts import Chance, Draft, Pair, read_lines

#: Wish; Python expression; JavaScript expression. x is a number, s a string, l a list of numbers.
_WISHES = read_lines("wishes")
_STATEMENTS = {
    "sql": (
        ("write the SQL query", "SQL for what I ask, tables and columns as I name them"),
        (
            ("the {noun}s whose price is above {n}", "SELECT * FROM {noun}s WHERE price > {n};"),
            (
                "how many {noun}s there are by color",
                "SELECT color, COUNT(*) FROM {noun}s GROUP BY color;",
            ),
            ("the {k} cheapest {noun}s", "SELECT * FROM {noun}s ORDER BY price LIMIT {k};"),
            ("the average price of the {noun}s", "SELECT AVG(price) FROM {noun}s;"),
            ("add {n} to the price of every {noun}", "UPDATE {noun}s SET price = price + {n};"),
        ),
    ),
    "css": (
        ("write the CSS rule", "style it as I say, one CSS rule"),
        (
            ("red text in {noun}s", ".{noun} {{ color: red; }}"),
            ("a margin of {n} pixels around the {noun}", ".{noun} {{ margin: {n}px; }}"),
            ("hide the {noun}", ".{noun} {{ display: none; }}"),
        ),
    ),
    "regex": (
        ("write a regular expression", "regex for this, nothing around it"),
        (
            ("exactly {k} digits", "^\\d{{{k}}}$"),
            ("{noun} at the end of a line", "{noun}$"),
            ("at least {k} small letters", "[a-z]{{{k},}}"),
            ("{noun} or a number", "{noun}|\\d+"),
        ),
    ),
    "git": (
        ("write the git command", "git command for that"),
        (
            ("a new branch {noun}, and go there", "git switch -c {noun}"),
            ("throw away the branch {noun}", "git branch -D {noun}"),
            ("the last {k} commits, one line each", "git log --oneline -n {k}"),
            ("put {noun}.txt into the next commit", "git add {noun}.txt"),
            ("undo the last {k} commits, keep the files", "git reset --soft HEAD~{k}"),
        ),
    ),
    "shell": (
        ("write the shell command", "bash one-liner, please, no explanation"),
        (
            ("the first {n} lines of {noun}.log", "head -n {n} {noun}.log"),
            ("count the lines of {noun}.csv", "wc -l {noun}.csv"),
            ("find files larger than {n} megabytes", "find . -size +{n}M"),
            ("pack the folder {noun}", "tar -czf {noun}.tar.gz {noun}"),
            ("who uses port 80{n}", "lsof -i :80{n}"),
            ("all lines with {noun} in them, in any file", "grep -r '{noun}' ."),
        ),
    ),
    "html": (
        ("write the HTML element", "HTML for it"),
        (
            ("a heading that says {noun}", "<h1>{noun}</h1>"),
            ("a link to {noun}.html with the text More", '<a href="{noun}.html">More</a>'),
            ("a button labeled {noun}", "<button>{noun}</button>"),
            ("a field for a number called {noun}", '<input type="number" name="{noun}">'),
        ),
    ),
}


def _fill(chance: Chance, *forms: str) -> list[str]:
    noun = chance.choice([word for word in NOUNS if word.isalpha()])
    n, k = chance.randint(10, 90), chance.randint(2, 6)
    return [form.format(noun=noun, n=n, k=k) for form in forms]


def _draw(chance: Chance) -> tuple[str, str, str]:
    """A wish, and Python and JavaScript for it."""
    wish, python, script = _fill(chance, *chance.choice(_WISHES).split(" = ", 2))
    return wish, python, script


def draft_all() -> Iterator[Draft]:
    """All families of this kind."""
    named = "what should be computed from the number x, the string s or the list l"
    forms = {
        "python": (("write a Python expression for it", "python one-liner"), "{wish}", "{python}"),
        "javascript": (
            ("write a JavaScript expression for it", "give me the JavaScript, no explanation"),
            "{wish}",
            "{script}",
        ),
        "lambda": (
            ("write a Python lambda", "as a lambda in Python"),
            "{wish}",
            "lambda {v}: {python}",
        ),
        "function": (
            ("write a Python function f", "define a function f in Python that returns it"),
            "{wish}",
            "def f({v}):\n    return {python}",
        ),
        "arrow": (("write a JavaScript arrow function",), "{wish}", "{v} => {script}"),
        "print": (("write a line of Python that prints it",), "{wish}", "print({python})"),
        "fenced": (
            ("answer with Python in a fenced code block",),
            "{wish}",
            "```python\n{python}\n```",
        ),
        "explain": (
            ("explain in plain words what the Python expression computes", "explain this code"),
            "{python}",
            "{wish}",
        ),
        "explain_script": (
            ("say what the JavaScript expression gives", "comment on the JavaScript in one phrase"),
            "{script}",
            "{wish}",
        ),
        "docstring": (
            ("write a docstring for the function", "document the Python function in one line"),
            "def f({v}):\n    return {python}",
            '"""Return {wish}."""',
        ),
        "to_script": (
            ("translate Python to JavaScript", "port it to JavaScript"),
            "{python}",
            "{script}",
        ),
        "to_python": (
            ("translate JavaScript to Python", "port the snippet to Python"),
            "{script}",
            "{python}",
        ),
        "argument": (
            ("name the variable that the expression uses",),
            "{python}",
            "{v}",
        ),
        "return": (
            ("add the missing return to the Python function", "fix the function"),
            "def f({v}):\n    {python}",
            "def f({v}):\n    return {python}",
        ),
        "commit": (
            ("write a commit message for the new function",),
            "def f({v}):\n    return {python}",
            "Add a function for {wish}",
        ),
    }
    for name, (asks, given, answer) in forms.items():
        what = named if given == "{wish}" else "a piece of code"
        yield Draft(
            f"code_{name}",
            asks,
            what,
            lambda chance, given=given, answer=answer: _write(chance, given, answer),
        )
    for name, (asks, rows) in _STATEMENTS.items():
        yield Draft(
            f"code_{name}",
            asks,
            "what somebody wants, in plain words",
            lambda chance, rows=rows: _pair(chance, chance.choice(rows)),
        )
        yield Draft(
            f"code_read_{name}",
            (f"say in plain words what this does ({name})", f"explain the {name} to a beginner"),
            f"a line of {name}",
            lambda chance, rows=rows: _pair(chance, chance.choice(rows)[::-1]),
        )
    yield Draft(
        "code_value",
        ("say what the Python expression evaluates to", "run this in your head: the result"),
        "a Python expression",
        _evaluate,
    )


def _pair(chance: Chance, row: tuple[str, ...]) -> Pair:
    given, answer = _fill(chance, *row)
    return given, answer


def _write(chance: Chance, given: str, answer: str) -> Pair:
    wish, python, script = _draw(chance)
    variable = next(v for v in "lsx" if v in _names(wish))
    values = {"wish": wish, "python": python, "script": script, "v": variable}
    return given.format(**values), answer.format(**values)


def _names(wish: str) -> set[str]:
    return set(wish.replace(",", " ").split())


def _evaluate(chance: Chance) -> Pair:
    numbers = [chance.randint(1, 9) for _ in range(4)]
    word = chance.choice([word for word in NOUNS if word.isalpha()])
    return chance.choice(
        (
            (f"len({word!r})", str(len(word))),
            (f"sum({numbers})", str(sum(numbers))),
            (f"max({numbers})", str(max(numbers))),
            (f"sorted({numbers})", str(sorted(numbers))),
            (f"{word!r}.upper()", repr(word.upper())),
            (f"{word!r}[0]", repr(word[0])),
            (
                f"{numbers[0]} * {numbers[1]} + {numbers[2]}",
                str(numbers[0] * numbers[1] + numbers[2]),
            ),
            (f"{numbers}[-1]", str(numbers[-1])),
            (f"{numbers[0]} > {numbers[1]}", str(numbers[0] > numbers[1])),
        )
    )
