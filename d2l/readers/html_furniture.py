"""Furniture of a web page, which is not its text: menus, banners, drawings, buttons.

A tree of lxml in, elements to leave out and their visible words out. Boxes, notes and asides are
text, unless they are lists of links beside the main text. Time is linear in the page.
"""

import re
from collections.abc import Container, Iterable, Iterator
from typing import Any, NamedTuple

from d2l.readers.findings import Finding
from d2l.readers.html_hidden import HiddenText, empty, own_texts

#: Elements whose text browsers do not show.
NOT_SHOWN = frozenset((
    "script", "style", "noscript", "noframes", "template", "title", "input", "canvas", "iframe",
    "audio", "video", "datalist", "rp", "annotation", "annotation-xml", "noembed",
    "meter", "progress", "desc", "metadata", "defs",
))  # fmt: skip
DRAWN = frozenset(("svg", "select", "textarea", "object"))  # visible, but not the page's text
# Links to edit or point, citation marks.
FURNITURE = "d2l-furniture"  # marked by the reader of a format
MARK_CLASSES = frozenset((
    FURNITURE,
    "mw-editsection", "headerlink", "anchorjs-link", "skip-link", "mw-jump-link",
    "mw-indicators", "mw-cite-backlink", "copiable-link", "copiable-anchor",  # Texinfo
    "hash-link", "header-anchor", "theme-edit-this-page", "top-link",  # Docusaurus, VuePress, man7
))  # fmt: skip
MENU_CLASSES = frozenset((
    "noprint", "navbox", "navbox-styles", "catlinks", "printfooter", "vector-toc", "sphinxsidebar",
    "navbar", "breadcrumbs", "breadcrumb", "navheader", "navfooter", "nav-panel", "pagination-nav",
    "navpath", "nav-bar", "sharedaddy", "share-buttons", "addtoany_share_save_container",
))  # fmt: skip
MENU_ROLES = frozenset(("navigation", "search", "menu", "menubar"))
NUMBER_CLASSES = frozenset(("linenos", "lineno", "gutter", "hljs-ln-numbers"))  # of lines of code
TOC_CLASSES = frozenset(("toc", "toc2", "table-of-contents", "on-this-page", "page-toc"))
BOX_CLASSES = TOC_CLASSES | {"sidebar", "widget-area"}
PAGE_ENDS = frozenset(("header", "footer", "banner", "contentinfo"))  # tags and roles
EDIT = re.compile(
    r"\W*(?:(?:edit|improve|view|show)(?: this)? (?:page|doc|source|history)(?: source)?"
    r"(?: on \w+)?|(?:edit|view|improve) on \w+|open an issue|back to top"
    r"|skip to (?:the )?(?:main |page )?(?:content|navigation)|(?:share|post)(?: this)? (?:on|via)"
    r" (?:x|twitter|facebook|linkedin|reddit|whatsapp|e-?mail))\W*",
    re.I,
)  # text of a link
BACK = re.compile("[↩↵⏎⤴↑^◆]\ufe0e? ?\\d*")  # text of a link from a note to its mark, or to itself
COOKIES = re.compile(r"(?i)(?:cookie|consent|gdpr).?(?:banner|bar|notice|popup|modal|overlay|sdk)")
USES_COOKIES = re.compile(r"\b(?:we|site|website)\b.{0,20} uses? (?:\w+ ){0,3}cookies", re.I)
ACCEPT = re.compile(r"(?:i )?(?:accept|agree|allow|ok|okay|got it)(?: all)?(?: cookies)?\W*", re.I)
MOST_OF_BANNER = 600  # characters
LINES = frozenset(("p", "div", "section", "aside", "form", "small", "label", "legend"))
#: Whole text of these elements.
LINE = re.compile(
    r"advertisement|on this page:?|(?:sign up|subscribe) (?:for|to) our newsletter[^.?!]{0,40}\W?"
    r"|was this (?:page|article) (?:helpful|useful)\W*(?:yes\W*no\W*)?"
    r"|(?:this page was )?last (?:updated|modified|edited)\b[^?!]{0,20}\d[^?!]{0,30}",
    re.I,
)
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
BLOCKS = HEADINGS | frozenset((
    "p", "div", "section", "article", "main", "body", "html", "header", "footer", "aside",
    "ul", "ol", "li", "dl", "dt", "dd", "blockquote", "pre", "figure", "figcaption", "table",
    "caption", "thead", "tbody", "tfoot", "tr", "form", "fieldset", "legend", "address",
    "hr", "details", "summary", "center", "dialog", "dir", "hgroup", "listing", "menu", "nav",
    "optgroup", "option", "search", "xmp",
))  # fmt: skip
PROSE = HEADINGS | {"p"}
TEXT = PROSE | {"article"}
LISTS = frozenset(("ul", "ol", "dl", "table"))
AROUND = PROSE | LISTS | {"main", "article", "header"}  # elements that decide about their content
LEAST_LINKS = 3  # of a list of links; fewer if nearly all of its characters are in links
LINKED_SHARE = 0.5  # of its characters
LEAST_CONTENTS = 0.3  # share in links of a table of contents, beside its title and numbers
SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]")
LEAST_WORDS, LEAST_SIGNS = 6, 12  # of a sentence: words, or East Asian signs
#: Words of sentences that stand on every page of a site.
EVERYWHERE = re.compile(
    r"copyright|©|rights reserved|(?:licen[cs]ed|available) under|built (?:with|using)|powered by"
    r"|generated (?:by|with)|theme|cookie|privacy|newsletter|subscribe|feedback|trademark"
    r"|last (?:modified|updated|edited)|terms (?:may|apply|of use)",
    re.I,
)
N_PIECES_TOLD = 20  # pieces of furniture with a finding of their own
N_WORDS_TOLD = 8


class Size(NamedTuple):
    """Visible characters of an element: all, those in links, and those of sentences; and the number
    of its links."""

    n_chars: int = 0
    n_linked: int = 0
    n_prose: int = 0
    n_links: int = 0

    @property
    def is_links(self) -> bool:
        """True if the element is a list of links."""
        share = self.n_linked / max(1, self.n_chars)
        return share >= (LINKED_SHARE if self.n_links >= LEAST_LINKS else 0.9) and self.n_links > 0


class Dropped(NamedTuple):
    """Visible words of a piece of a page that is left out."""

    words: str
    is_prose: bool = False


def find_unseen(root: Any, hidden: Iterable[HiddenText]) -> set[Any]:
    """Find elements whose own text is not visible."""
    whole = [text.element for text in hidden if text.is_whole]
    closed = (dialog for dialog in root.iter("dialog") if dialog.get("open") is None)
    unseen = {text.element for text in hidden}
    for element in (*whole, *closed, *root.iter(*NOT_SHOWN)):
        unseen.update(element.iter())
    return unseen


def measure(root: Any, unseen: Container[Any]) -> dict[Any, Size]:
    """Measure the visible text of all elements, the inner ones first."""
    sizes: dict[Any, Size] = {}
    runs: dict[Any, tuple[str, int]] = {}  # text of inline elements, and its characters in links
    for element in reversed(list(root.iter("*"))):
        is_seen = element not in unseen
        texts, n_run_linked = [element.text or "" if is_seen else ""], 0
        totals = [0, 0, 0, 0]
        for child in element:
            text, n_linked = runs.pop(child, ("\n", 0))
            texts += [text, child.tail or "" if is_seen else ""]
            n_run_linked += n_linked
            totals = [a + b for a, b in zip(totals, sizes[child], strict=True)]
        text = "".join(texts)
        if element.tag == "a":  # a card of blocks, too
            n_run_linked = sum(map(len, text.split()))
            totals[1:] = totals[0], 0, 1
        if element.tag not in BLOCKS and element.tag not in ("td", "th"):
            runs[element] = text, n_run_linked
        else:
            n_chars = sum(map(len, text.split()))
            totals[0] += n_chars
            totals[1] += n_run_linked
            if n_run_linked < LINKED_SHARE * n_chars and is_prose(text):
                totals[2] += n_chars
        sizes[element] = Size(*totals)
    return sizes


def is_prose(text: str) -> bool:
    """True if a text has a sentence that is not one of those on every page of a site."""
    return any(
        len(sentence.split()) >= LEAST_WORDS or sum(c > "\u2e80" for c in sentence) >= LEAST_SIGNS
        for sentence in SENTENCE_END.split(text)[:-1]
        if not EVERYWHERE.search(sentence)
    )


def read_seen(element: Any, unseen: Container[Any]) -> str:
    """Read the visible words of an element, in order."""
    words = []
    for text in element.xpath("descendant::text()"):
        owner = text.getparent()
        if (owner.getparent() if text.is_tail else owner) not in unseen:
            words += text.split()
    return " ".join(words)


def remove(elements: Iterable[Any], unseen: Container[Any]) -> Iterator[Dropped]:
    """Remove elements from the tree; yield their visible words."""
    gone = set[Any]()
    for element in elements:
        if element not in gone:
            gone.update(element.iter())
            if words := read_seen(element, unseen):
                yield Dropped(words)
            empty(element)


def find_outside(main: Any, sizes: dict[Any, Size], unseen: Container[Any]) -> Iterator[Dropped]:
    """Find the visible pieces of a page around its main content."""
    inside = {main, *main.iterancestors()}
    for around in main.iterancestors():
        own = " ".join(" ".join(own_texts(around)).split()) if around not in unseen else ""
        yield Dropped(own, is_prose(own))
        for child in around.iterchildren("*"):
            if child not in inside:
                yield Dropped(read_seen(child, unseen), sizes[child].n_prose > 0)


def tell_dropped(pieces: Iterable[Dropped]) -> Iterator[Finding]:
    """Yield findings about pieces that were left out: the first words of prose, and of the largest
    pieces of furniture."""
    counts: dict[str, int] = {}
    for words, prose in pieces:
        shown = words.split(maxsplit=N_WORDS_TOLD)[:N_WORDS_TOLD]
        what = " ".join(shown)[:80] + (" …" if len(" ".join(shown)) < len(words) else "")
        if prose:
            yield Finding("dropped", what, len(words))
        elif words:
            counts[what] = counts.get(what, 0) + len(words)
    order = sorted(counts.items(), key=lambda item: -item[1])
    for what, count in order[:N_PIECES_TOLD]:
        yield Finding("furniture", what, count)
    if n_more := sum(count for _, count in order[N_PIECES_TOLD:]):
        yield Finding("furniture", "smaller pieces", n_more)


def find_furniture(root: Any, sizes: dict[Any, Size]) -> list[Any]:
    """Find elements that are not the page's text: navigation, code, citation marks."""
    titled, worded = find_around(root.iter("h1")), find_around(root.iter(*PROSE))
    above: dict[Any, frozenset[str]] = {None: frozenset()}  # tags of an element and its ancestors
    furniture = []
    for element in root.iter("*"):
        around = above[element.getparent()]
        tag = "main" if element.get("role") == "main" else element.tag
        above[element] = around | {tag} if tag in AROUND else around
        size = sizes[element]
        # Beside the title a page's header contains menus, languages, logos.
        beside_title = "header" in around and not around & TEXT and element not in worded
        if element is not root and (
            (beside_title and size.is_links and not size.n_prose)
            or is_furniture(element, around, size, element in titled)
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


def is_furniture(element: Any, around: frozenset[str], size: Size, is_titled: bool) -> bool:
    """True if an element itself is navigation or code. `around`: tags of its ancestors;
    `is_titled`: it contains the title."""
    tag, role = element.tag, element.get("role", "")
    if tag in NOT_SHOWN or (tag == "dialog" and element.get("open") is None):
        return True
    classes = set(element.get("class", "").split())
    if tag in ("html", "body", "main", "article") or role == "main":
        return False
    if classes & MARK_CLASSES or (tag == "sup" and "reference" in classes):
        return True
    if tag == "a":
        text = " ".join(element.text_content().split())
        if BACK.fullmatch(text):
            return True
        before = element.getprevious()
        beside = element.getparent().text if before is None else before.tail
        if not (beside or "").strip() and not (element.tail or "").strip():
            return EDIT.fullmatch(text) is not None
    if classes & NUMBER_CLASSES and (tag == "td" or "gutter" not in classes):
        return not element.text_content().strip("0123456789 \n")
    if COOKIES.search(f"{element.get('class', '')} {element.get('id', '')}"):
        return element.find(".//button") is not None and element.find(".//pre") is None
    if size.n_prose or is_titled:
        return False
    if tag in LINES and size.n_chars <= MOST_OF_BANNER and not around & LISTS:
        text = " ".join(element.text_content().split())
        buttons = (button.text_content().strip() for button in element.iter("button", "a"))
        is_banner = USES_COOKIES.search(text) and any(map(ACCEPT.fullmatch, buttons))
        if is_banner or LINE.fullmatch(text):
            return True
    is_trail = tag == "ol" and element.get("id") == "breadcrumbs"  # of Confluence
    if tag == "nav" or role in MENU_ROLES or classes & MENU_CLASSES or is_trail:
        return True
    is_contents = classes & TOC_CLASSES and size.n_linked >= LEAST_CONTENTS * size.n_chars > 0
    if "main" in around or "article" in around:
        is_menu = size.is_links and "sidebar" in classes
        return is_menu or bool(is_contents and leads_here(element))
    if tag in PAGE_ENDS or role in PAGE_ENDS:
        return True
    if role.startswith("doc-") or element.get("epub:type") is not None:  # a note
        return False
    is_box = tag == "aside" or role == "complementary" or bool(classes & BOX_CLASSES)
    return bool(is_contents) or (is_box and size.is_links)


def leads_here(element: Any) -> bool:
    """True if all links of an element lead into its own page: it repeats the page's headings."""
    return all(link.get("href", "").startswith("#") for link in element.iter("a"))


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
