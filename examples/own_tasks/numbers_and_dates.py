"""Tasks on numbers, dates and times."""

from collections.abc import Callable, Iterator

from banks import DAYS, MONTHS, SMALL, YES_NO
from drafts import Chance, Draft

_ROMAN = (("X", 10), ("IX", 9), ("V", 5), ("IV", 4), ("I", 1))


def draft_all() -> Iterator[Draft]:
    """All families of this kind."""
    yield from _single()
    yield from _two()
    yield from _several()
    yield from _judgements()
    yield from _dates()
    yield from _times()


def _single() -> Iterator[Draft]:
    changes: dict[str, tuple[str, Callable[[int], str]]] = {
        "double": ("double the number", lambda n: str(2 * n)),
        "half": ("halve the number", lambda n: f"{n / 2:g}"),
        "plus_ten": ("add ten to the number", lambda n: str(n + 10)),
        "minus_one": ("subtract one from the number", lambda n: str(n - 1)),
        "next": ("write the next whole number", lambda n: str(n + 1)),
        "times_ten": ("multiply the number by ten", lambda n: str(10 * n)),
        "square_said": ("say what the square of the number is", lambda n: f"{n * n}"),
        "ordinal": ("write the number as an ordinal with digits, such as 3rd", lambda n: _nth(n)),
        "last_digit": ("write the last digit", lambda n: str(n)[-1]),
        "backwards": ("write the digits in the opposite order", lambda n: str(n)[::-1]),
        "digit_sum": ("add up the digits", lambda n: str(sum(map(int, str(n))))),
        "four_digits": ("pad the number with zeros to four digits", lambda n: f"{n:04d}"),
        "percent": ("write the number as a percentage", lambda n: f"{n}%"),
        "dollars": ("write the number as a price in dollars and cents", lambda n: f"${n}.00"),
        "euro": ("write the number as a price in euros", lambda n: f"{n} EUR"),
        "tens": ("round the number to the nearest ten", lambda n: str((n + 5) // 10 * 10)),
        "negative": ("write the number with the opposite sign", lambda n: str(-n)),
        "binary": ("write the number in binary", lambda n: f"{n:b}"),
        "metres": ("convert metres into centimetres", lambda n: f"{100 * n} cm"),
        "minutes": ("convert hours into minutes", lambda n: f"{60 * n} minutes"),
        "equation": ("write an equation that says x is this number", lambda n: f"x = {n}"),
    }
    for name, (ask, change) in changes.items():
        yield Draft(
            f"number_{name}",
            (ask, ask.replace("the number", "this number")),
            "a number",
            lambda chance, change=change: _changed(chance.randint(2, 99), change),
        )
    yield Draft(
        "roman_to_number",
        ("write the Roman numeral with ordinary digits", "convert the Roman number into a decimal"),
        "a Roman numeral",
        lambda chance: _swap(_changed(chance.randint(1, 39), _roman)),
    )
    yield Draft(
        "number_to_roman",
        ("write the number as a Roman numeral",),
        "a number",
        lambda chance: _changed(chance.randint(1, 39), _roman),
    )
    yield Draft(
        "words_to_digits",
        ("write the number with digits", "turn the number word into digits"),
        "a number in words",
        lambda chance: _swap(_changed(chance.randint(0, 20), lambda n: SMALL[n])),
    )


def _changed(number: int, change: Callable[[int], str]) -> tuple[str, str]:
    return str(number), change(number)


def _swap(pair: tuple[str, str]) -> tuple[str, str]:
    return pair[1], pair[0]


def _nth(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number // 10 % 10 == 1 else ending}"


def _roman(number: int) -> str:
    written = ""
    for letters, value in _ROMAN:
        written += letters * (number // value)
        number %= value
    return written


def _two() -> Iterator[Draft]:
    changes: dict[str, tuple[str, Callable[[int, int], str]]] = {
        "difference": ("subtract the second number from the first", lambda a, b: str(a - b)),
        "larger": ("write the larger of the two numbers", lambda a, b: str(max(a, b))),
        "smaller": ("write the smaller of the two numbers", lambda a, b: str(min(a, b))),
        "swap": ("write the two numbers in the opposite order", lambda a, b: f"{b} {a}"),
        "sum_equation": ("write the sum as an equation", lambda a, b: f"{a} + {b} = {a + b}"),
        "comparison": (
            "write the sign <, > or = that belongs between the numbers",
            lambda a, b: "<" if a < b else ">" if a > b else "=",
        ),
        "compared": (
            "say whether the first number is greater or smaller than the second",
            lambda a, b: "greater" if a > b else "smaller" if a < b else "equal",
        ),
        "range": ("write the two numbers as a range with a dash", lambda a, b: f"{a}-{b}"),
        "point": ("write the numbers as the coordinates of a point", lambda a, b: f"({a}, {b})"),
        "fraction": ("write the first number over the second", lambda a, b: f"{a}/{b}"),
    }
    for name, (ask, change) in changes.items():
        yield Draft(f"two_{name}", (ask,), "two numbers", _paired(change))


def _paired(change: Callable[[int, int], str]) -> Callable[[Chance], tuple[str, str]]:
    def make(chance: Chance) -> tuple[str, str]:
        first, second = chance.randint(1, 60), chance.randint(1, 60)
        return f"{first} {second}", change(first, second)

    return make


def _several() -> Iterator[Draft]:
    changes: dict[str, tuple[str, Callable[[list[int]], str]]] = {
        "rising": ("sort the numbers from small to large", lambda n: _join(sorted(n))),
        "falling": ("sort the numbers in falling order", lambda n: _join(sorted(n)[::-1])),
        "even": (
            "keep the even numbers, or write none",
            lambda n: _join([x for x in n if x % 2 == 0]) or "none",
        ),
        "above_40": (
            "list the numbers above 40, or write none",
            lambda n: _join([x for x in n if x > 40]) or "none",
        ),
        "first": ("write the first number", lambda n: str(n[0])),
        "how_many": ("count the numbers", lambda n: str(len(n))),
        "plus_one": ("add one to each number", lambda n: _join([x + 1 for x in n])),
        "list": ("write the numbers as a list in square brackets", lambda n: str(n)),
    }
    for name, (ask, change) in changes.items():
        yield Draft(f"several_{name}", (ask,), "several numbers", _many(change))


def _many(change: Callable[[list[int]], str]) -> Callable[[Chance], tuple[str, str]]:
    def make(chance: Chance) -> tuple[str, str]:
        numbers = [chance.randint(1, 80) for _ in range(chance.randint(3, 6))]
        return _join(numbers), change(numbers)

    return make


def _join(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _judgements() -> Iterator[Draft]:
    tests: dict[str, tuple[str, Callable[[int], bool]]] = {
        "even": ("the number is even", lambda n: n % 2 == 0),
        "over_30": ("the number is greater than 30", lambda n: n > 30),
        "tens": ("the number ends in 0 or 5", lambda n: n % 5 == 0),
        "two_digits": ("the number has two digits", lambda n: 9 < n < 100),
        "adult": ("someone of this age is an adult", lambda n: n > 17),
    }
    for number, (name, (condition, holds)) in enumerate(tests.items()):
        for yes, no in (YES_NO[2 * number % 10], YES_NO[(2 * number + 5) % 10]):
            yield Draft(
                f"number_is_{name}_{yes}",
                (
                    f"answer {yes} if {condition} and {no} otherwise",
                    f"check whether {condition}: {yes} or {no}",
                ),
                "a number",
                lambda chance, test=holds, labels=(yes, no): _changed(
                    chance.randint(1, 120), lambda n: labels[0 if test(n) else 1]
                ),
            )


def _dates() -> Iterator[Draft]:
    forms = {
        "ISO": ("in the form year-month-day with digits", "{y}-{m:02d}-{d:02d}"),
        "US": ("in the American form month/day/year", "{m}/{d}/{y}"),
        "German": ("in the German form day.month.year", "{d:02d}.{m:02d}.{y}"),
        "long": ("with the name of the month after the day", "{d} {month} {y}"),
        "american": ("with the name of the month first", "{month} {d}, {y}"),
    }
    names = list(forms)
    for number, target in enumerate(names):
        source = names[(number + 2) % len(names)]
        yield Draft(
            f"date_{target}",
            (f"write the date {forms[target][0]}", f"rewrite the date {forms[target][0]}"),
            "a date",
            lambda chance, a=forms[source][1], b=forms[target][1]: _dated(chance, a, b),
        )
    parts = {"month": "{month}", "day": "{d}", "century": "{century}th", "quarter": "Q{quarter}"}
    for name, form in parts.items():
        yield Draft(
            f"date_{name}",
            (f"name the {name} of the date", f"say which {name} the date is in"),
            "a date",
            lambda chance, form=form: _dated(chance, "{y}-{m:02d}-{d:02d}", form),
        )
    for name, steps in (("next", 1), ("previous", -1)):
        for kind, row in (("weekday", DAYS), ("month", MONTHS)):
            yield Draft(
                f"{name}_{kind}",
                (f"name the {name} {kind}", f"write the {kind} that is {name} to the one given"),
                f"a {kind}",
                lambda chance, row=row, steps=steps: _moved(chance, row, steps),
            )
    yield Draft(
        "month_number",
        ("write the number of the month", "say which month of the year it is, as a number"),
        "the name of a month",
        lambda chance: _numbered(chance.randrange(12)),
    )
    yield Draft(
        "month_short",
        ("abbreviate the month to three letters",),
        "the name of a month",
        lambda chance: (month := chance.choice(MONTHS), month[:3]),
    )


def _numbered(index: int) -> tuple[str, str]:
    return MONTHS[index], str(index + 1)


def _dated(chance: Chance, source: str, target: str) -> tuple[str, str]:
    month = chance.randint(1, 12)
    values = {
        "y": chance.randint(1905, 2029),
        "m": month,
        "d": chance.randint(1, 28),
        "month": MONTHS[month - 1],
        "quarter": (month + 2) // 3,
    }
    values["century"] = values["y"] // 100 + 1
    if values["century"] == 21:
        target = target.replace("th", "st") if target == "{century}th" else target
    return source.format(**values), target.format(**values)


def _moved(chance: Chance, row: tuple[str, ...], steps: int) -> tuple[str, str]:
    index = chance.randrange(len(row))
    return row[index], row[(index + steps) % len(row)]


def _times() -> Iterator[Draft]:
    yield Draft(
        "time_12",
        ("write the time with am or pm", "convert the time to the twelve-hour clock"),
        "a time of the day in the 24-hour form",
        lambda chance: _clock(chance.randint(1, 23), chance.randrange(60)),
    )
    yield Draft(
        "time_24",
        ("write the time in the 24-hour form",),
        "a time with am or pm",
        lambda chance: _swap(_clock(chance.randint(1, 23), chance.randrange(60))),
    )
    yield Draft(
        "part_of_day",
        ("say whether the time is in the morning, afternoon, evening or night",),
        "a time of the day",
        lambda chance: _part_of_day(chance.randrange(24), chance.randrange(60)),
    )


def _clock(hour: int, minute: int) -> tuple[str, str]:
    half = "am" if hour < 12 else "pm"
    return f"{hour:02d}:{minute:02d}", f"{(hour - 1) % 12 + 1}:{minute:02d} {half}"


def _part_of_day(hour: int, minute: int) -> tuple[str, str]:
    parts = ("night", "morning", "afternoon", "evening")
    return f"{hour:02d}:{minute:02d}", parts[hour // 6]
