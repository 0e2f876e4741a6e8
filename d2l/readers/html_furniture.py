"""Furniture of a web page, which is not its text: menus, banners, drawings, buttons.

A tree of lxml in, elements to leave out, and the number of their visible characters out. Time is
linear in the page.
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
DRAWN = frozenset(("svg", "select", "textarea", "object"))  # visible, but not the page's text
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
AROUND = PROSE | {"main", "article", "header"}  # elements that decide about their content


def find_unseen(root: Any, hidden: Iterable[HiddenText]) -> set[Any]:
    """Find elements whose own text is not visible."""
    whole = [text.element for text in hidden if text.is_whole]
    closed = (dialog for dialog in root.iter("dialog") if dialog.get("open") is None)
    unseen = {text.element for text in hidden}
    for element in (*whole, *closed, *root.iter(*NOT_SHOWN)):
        unseen.update(element.iter())
    return unseen


def count_seen(element: Any, unseen: Container[Any]) -> int:
    """Count the visible characters of an element, without spaces."""
    texts = (text for inner in element.iter() if inner not in unseen for text in own_texts(inner))
    return sum(len(word) for text in texts for word in text.split())


def remove(elements: Iterable[Any], unseen: Container[Any]) -> int:
    """Remove elements from the tree; return the number of their visible characters."""
    n_chars, gone = 0, set[Any]()
    for element in elements:
        if element not in gone:
            gone.update(element.iter())
            n_chars += count_seen(element, unseen)
            empty(element)
    return n_chars


def find_furniture(root: Any) -> list[Any]:
    """Find elements that are not the page's text: navigation, code, citation marks."""
    titled, worded = find_around(root.iter("h1")), find_around(root.iter(*PROSE))
    above: dict[Any, frozenset[str]] = {None: frozenset()}  # tags of an element and its ancestors
    furniture = []
    for element in root.iter("*"):
        around = above[element.getparent()]
        tag = "main" if element.get("role") == "main" else element.tag
        above[element] = around | {tag} if tag in AROUND else around
        # Beside the title a header contains menus, languages, logos.
        is_banner_part = "header" in around and not around & PROSE and element not in worded
        if element is not root and (
            is_banner_part or is_furniture(element, around, element in titled)
        ):
            furniture.append(element)
    return furniture


def find_around(elements: Iterable[Any]) -> set[Any]:
    """Find elements and all their ancestors."""
    around: set[Any] = set()
    for element in elements:
        while element is not None and element not in around:
            around.add(element)
            element = element.getparent()
    return around


def is_furniture(element: Any, around: Container[str], is_titled: bool) -> bool:
    """True if an element itself is navigation or code. `around`: tags of its ancestors;
    `is_titled`: it contains the title."""
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
    """Find drawings, controls and decoration, but not headings that unfold their section."""
    folds = {
        button
        for heading in main.iter(*HEADINGS)
        if (text := heading.text_content().strip())
        for button in heading.iter("button")
        if button.text_content().strip() == text
    }
    return [
        element
        for element in main.iter("*")
        if element is not main
        and (
            element.tag in DRAWN
            or element.get("aria-hidden", "").lower() == "true"
            or (element.tag == "button" and element not in folds)
        )
    ]
