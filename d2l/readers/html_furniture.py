"""What is on a web page and no text of it: menus, banners, drawings, buttons.

Takes a tree of lxml, gives elements to leave out, and counts what a reader sees of them. Time grows
with the page.
"""

from collections.abc import Container, Iterable
from typing import Any

from d2l.readers.html_hidden import HiddenText, empty, own_texts

#: Elements whose text browsers do not show.
NOT_SHOWN = frozenset((
    "script", "style", "noscript", "noframes", "template", "title", "input", "canvas", "iframe",
    "audio", "video", "datalist", "rp", "annotation", "annotation-xml", "noembed",
    "meter", "progress", "desc", "metadata", "defs",
))  # fmt: skip
DRAWN = frozenset(("svg", "select", "textarea", "object"))  # seen, but no text of the page
DROPPED_OUTSIDE_MAIN = frozenset(("header", "footer", "aside"))  # unless they hold the title
DROPPED_ROLES = frozenset(("navigation", "banner", "contentinfo", "search", "complementary"))
# Links to edit or point, boxes of links, citation marks.
DROPPED_CLASSES = frozenset((
    "mw-editsection", "noprint", "navbox", "navbox-styles", "headerlink", "anchorjs-link",
    "skip-link", "mw-jump-link", "catlinks", "printfooter", "vector-toc", "sphinxsidebar",
    "toc", "mw-indicators", "mw-cite-backlink", "navbar", "sidebar", "breadcrumbs",
    "navheader", "navfooter",  # DocBook
    "nav-panel", "copiable-link", "copiable-anchor",  # Texinfo
    "hash-link", "header-anchor", "pagination-nav",  # Docusaurus, VuePress
))  # fmt: skip
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
PROSE = HEADINGS | {"p"}
AROUND = PROSE | {"main", "article", "header"}  # elements that say what is in them


def find_unseen(root: Any, hidden: Iterable[HiddenText]) -> set[Any]:
    """Elements whose own text is not seen."""
    whole = [text.element for text in hidden if text.is_whole]
    closed = (dialog for dialog in root.iter("dialog") if dialog.get("open") is None)
    unseen = {text.element for text in hidden}
    for element in (*whole, *closed, *root.iter(*NOT_SHOWN)):
        unseen.update(element.iter())
    return unseen


def count_seen(element: Any, unseen: Container[Any]) -> int:
    """How many characters of an element are seen, spaces left out."""
    texts = (text for one in element.iter() if one not in unseen for text in own_texts(one))
    return sum(len(word) for text in texts for word in text.split())


def take_out(elements: Iterable[Any], unseen: Container[Any]) -> int:
    """Take elements out of the tree; give the number of their characters that are seen."""
    n_chars, gone = 0, set[Any]()
    for element in elements:
        if element not in gone:
            gone.update(element.iter())
            n_chars += count_seen(element, unseen)
            empty(element)
    return n_chars


def find_furniture(root: Any) -> list[Any]:
    """Elements that are not the page's text: navigation, code, marks for the eyes alone."""
    titled, worded = find_around(root.iter("h1")), find_around(root.iter(*PROSE))
    above: dict[Any, frozenset[str]] = {None: frozenset()}  # tags of an element and of those around
    found = []
    for element in root.iter("*"):
        around = above[element.getparent()]
        tag = "main" if element.get("role") == "main" else element.tag
        above[element] = around | {tag} if tag in AROUND else around
        # A header holds menus, languages, logos beside the title.
        is_banner_part = "header" in around and not around & PROSE and element not in worded
        if element is not root and (
            is_banner_part or is_furniture(element, around, element in titled)
        ):
            found.append(element)
    return found


def find_around(elements: Iterable[Any]) -> set[Any]:
    """Elements, and all that they are in."""
    found: set[Any] = set()
    for element in elements:
        while element is not None and element not in found:
            found.add(element)
            element = element.getparent()
    return found


def is_furniture(element: Any, around: Container[str], is_titled: bool) -> bool:
    """Whether an element is navigation or code by itself. `around`: tags of the elements that it
    is in; `is_titled`: it holds the title."""
    tag, role = element.tag, element.get("role", "")
    if tag in NOT_SHOWN or tag == "nav" or (tag == "dialog" and element.get("open") is None):
        return True
    classes = set(element.get("class", "").split())
    if classes & DROPPED_CLASSES:
        return tag not in ("html", "body", "main", "article")
    if tag == "sup" and "reference" in classes:  # a citation's number
        return True
    if tag in DROPPED_OUTSIDE_MAIN or role in DROPPED_ROLES:
        return not (is_titled or "main" in around or "article" in around)
    return False


def find_drawn(main: Any) -> list[Any]:
    """Drawings, controls and decoration in the page; a heading that unfolds its section is none."""
    folds = {
        button
        for heading in main.iter(*HEADINGS)
        if (text := heading.text_content().strip())
        for button in heading.iter("button")
        if button.text_content().strip() == text
    }
    return [
        one
        for one in main.iter("*")
        if one is not main
        and (
            one.tag in DRAWN
            or one.get("aria-hidden", "").lower() == "true"
            or (one.tag == "button" and one not in folds)
        )
    ]
