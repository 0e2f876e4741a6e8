"""Style sheets of a page: which of them a browser uses on a screen.

Takes a tree of lxml, gives their texts in the order of the page. Sheets elsewhere are not fetched.
"""

import base64
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from d2l.documents.readers.css_conditions import applies_to_screen

DATA_SHEET = re.compile(r"data:text/css[^,]{0,60},", re.I)
#: What stands in them is no part of a page where scripts run.
NO_PART = frozenset(
    ("noscript", "template", "noframes", "noembed", "iframe", "textarea", "xmp", "title")
)


def find_sheets(root: Any) -> Iterator[str]:
    """Yield the sheets that a page holds in itself."""
    chosen = ""  # the title of the sheets that are used, of those with titles
    for element in root.iter("link", "style"):
        if not is_used(element):
            continue
        title = element.get("title", "").strip()
        chosen = chosen or title
        if title and title != chosen:
            continue
        text = element.text or "" if element.tag == "style" else read_data(element.get("href", ""))
        if text:
            yield text


def is_used(element: Any) -> bool:
    """Whether a browser uses a sheet, or what a link leads to, on a screen."""
    if element.tag == "link":
        kinds = element.get("rel", "").lower().split()
        if "stylesheet" not in kinds or "alternate" in kinds or element.get("disabled") is not None:
            return False
    kind = element.get("type", "").strip().lower()
    if kind.partition(";")[0] not in ("", "text/css"):
        return False
    if any(parent.tag in NO_PART for parent in element.iterancestors()):
        return False
    return applies_to_screen(element.get("media", ""))


def read_data(address: str) -> str | None:
    """The style sheet that an address holds in itself; None for any other address."""
    head = DATA_SHEET.match(address.strip())
    if head is None:
        return None
    body = unquote_to_bytes(address.strip()[head.end() :])
    if ";base64" in head[0].lower():
        try:
            body = base64.b64decode(body, validate=False)
        except ValueError:
            return None
    return body.decode("utf-8", "replace")
