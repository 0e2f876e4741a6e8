"""Reports as one HTML file that needs nothing else: no scripts, no fonts, no network.

What is written here is trusted; everything that comes from documents and models is to be escaped by
who renders it, and the page forbids itself to load or run anything, so that a document cannot do
what its author wants in the reader's browser.
"""

from collections.abc import Iterable
from html import escape
from pathlib import Path

from d2l import __version__
from d2l.errors import D2LError
from d2l.files.atomic import replace_file

#: Marks a file as one of ours, which may be replaced.
_GENERATOR = '<meta name="generator" content="d2l probe">'
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1c2430; background: #fff; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #dde2e8; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content auto; gap: .2rem 1rem; }
dt { color: #5b6673; } dd { margin: 0; }
.passage { border: 1px solid #dde2e8; border-radius: .4rem; padding: .6rem 1rem; margin: 1rem 0; }
.note { color: #5b6673; }
"""


def refuse_report(path: Path) -> None:
    """Raise D2LError where a report cannot go: a folder, or a file that is no report of ours."""
    if path.is_dir():
        raise D2LError(f"{path}: is a folder", hint="name a file, for example report.html")
    if not path.parent.is_dir():
        raise D2LError(f"{path.parent}: no such folder", hint="make it first, or choose another")
    if path.exists() and _GENERATOR.encode() not in _read_head(path):
        raise D2LError(
            f"{path} exists and is no report of d2l", hint="choose another name for the report"
        )


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1000)
    except OSError as error:
        raise D2LError(f"{path}: cannot be read ({error.strerror})") from error


def write_page(text: str, path: Path) -> None:
    """Write a page, whole or not at all; one that is there is replaced. Raises D2LError."""
    refuse_report(path)
    page = text.encode("utf-8", "replace")
    try:
        replace_file(path, lambda target: target.write_bytes(page))
    except OSError as error:
        raise D2LError(
            f"{path}: cannot be written ({error.strerror})",
            hint="choose a place that has room and that you may write to",
        ) from error


def render_page(subject: str, body: Iterable[str]) -> str:
    """The page as text: what was probed, and lines of HTML, in which all that is not ours is
    escaped already."""
    title = escape(f"d2l probe: {subject}")
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            _GENERATOR,
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f"<h1>{title}</h1>",
            *body,
            f'<p class="note">Made by d2l {escape(__version__)}.</p>\n</body>\n</html>\n',
        ]
    )


def render_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Names and values beside each other."""
    rows = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f"<dl>\n{rows}\n</dl>"
