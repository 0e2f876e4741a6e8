"""Markdown: converted to HTML by markdown-it, and read as a page.

Bytes in, sections by heading out. Tags of site generators leave their titles; names in angle
brackets that are no HTML elements are text. Badges, lines of links and sponsors are furniture.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from itertools import islice
from typing import Any

import lxml.html.defs
from markdown_it import MarkdownIt
from markdown_it.common.html_blocks import block_names
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock, html_block, reference
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from d2l.readers.html import parse_tree, split_page, tell_pages
from d2l.readers.html_furniture import FURNITURE, HEADINGS, LEAST_LINKS
from d2l.readers.parsing import Parsed, ParseRequest, bound_text, damaged
from d2l.readers.sniff import decode
from d2l.readers.text import drop_encoded, encoding_notes

MAX_NESTING = 40  # of lists, items and quotes
#: Blocks of Jekyll, Hugo and MDX: code, comments, imports and exports.
SITE_BLOCK = re.compile(
    r"\{[{%][%<-]?\s*highlight\b.*\n(?P<code>(?s:.{0,5000}?)^)\s*\{[{%][%<-]?\s*(?:end|/)highlight\b.*"
    r"|(?s:\{%-?\s*comment\b.{0,5000}?\{%-?\s*endcomment\b[^%\n]*%\}|\{/\*.{0,5000}?\*/\})[ \t]*$"
    r"|import [\w*${}, \n]{0,999}[\"'][^\"'\n]+[\"'];?[ \t]*$"
    r"|export (?:const|let|function|default) .+(?>\n.+)*+",
    re.M,
)
#: Tags of Liquid, Hugo, kramdown and JSX.
SITE_TAG = re.compile(
    r"(?s:\{%-?\s*comment\s*-?%\}.{0,1000}?\{%-?\s*endcomment\s*-?%\}|\{/\*.{0,1000}?\*/\})"
    r"|\{%[^{}]*%\}|\{\{[%<][^{}]*[%>]\}\}|\{:\s*(?:[.#]|toc|[\w-]+=)[^{}\n]*\}"
    r"|\{#[\w. -]+\}[ \t]*$|<(?P<end>/)?(?P<name>[A-Z](?=\w*[a-z])\w*+)(?:\s(?:=>|[^<>])*)?/?>",
    re.M,
)
TITLE = re.compile(
    r"\b(?:(?:title|label|caption|summary|text)(?:=|: )|(?:tab|expand|details) )([\"'])([^\n]+?)\1"
)
END_TAG = re.compile(r"</([A-Za-z][\w-]*)")
TAG = re.compile(r"<(?P<end>/?)(?P<name>[A-Za-z][A-Za-z0-9-]*)(?P<rest>[^>]*)")
MAY_HIDE = re.compile(r"style|class|hidden|popover", re.I)  # in a tag
ELEMENTS = lxml.html.defs.tags | {*block_names, "data", "picture", "slot", "template"}
PICTURE = "d2l-picture"
EMPTY = lxml.html.defs.empty_tags | {"source", "track", "wbr"}
#: Elements that mostly have no end tag.
UNENDED = EMPTY | {"dd", "dt", "li", "p", "td", "th", "tr"}

BADGE = re.compile(r"badge|shields\.io", re.I)  # in the address of a picture
ALERT = re.compile(r"\s*\[!(\w+)\][+-]?\s*")  # of GitHub and Obsidian, at the top of a quote
SPONSORS = re.compile(r"\b(?:sponsors?|backers)\b", re.I)  # in a heading
BETWEEN_LINKS = re.compile(r"[|•·∙∣/\s]+")


def parse_markdown(request: ParseRequest) -> Parsed:
    """Read the page that a Markdown text makes."""
    decoded = decode(request.data, request.name, request.encoding)
    text, encoded = drop_encoded(decoded.text)
    tree = parse_tree(convert(text, request), request)
    mark_furniture(tree)
    page = split_page(tree, include_hidden=request.include_hidden)
    sections = tuple(bound_text(page.sections, request))
    notes = (*encoding_notes(decoded), *encoded, *page.notes)
    return Parsed(sections, notes, *tell_pages([page]))


def convert(text: str, request: ParseRequest) -> str:
    """Convert a text to HTML; raises DocumentError if its blocks are nested too deeply. The lines
    of its front matter stay as they are."""
    lines = text.split("\n")
    n_front = count_front_matter(lines)
    front = escape("\n".join(lines[:n_front][1:-1]))
    env: EnvType = {"closed": {name.lower() for name in END_TAG.findall(text)}}
    parser = make_parser()
    tokens = parser.parse("\n".join(lines[n_front:]), env)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        raise damaged(request, "Markdown text", "its lists or quotes are nested too deeply")
    page = parser.renderer.render(tokens, parser.options, env)
    return f"<body><pre>{front}</pre>{page}" if front else f"<body>{page}"


def count_front_matter(lines: Sequence[str]) -> int:
    """Count the lines of a YAML block between `---` lines at the top."""
    ends = (n for n, line in enumerate(lines[1:], start=2) if line.rstrip() in ("---", "..."))
    return next(ends, 0) if lines[0].rstrip() == "---" else 0


def make_parser() -> MarkdownIt:
    """Make a parser of CommonMark with tables and tags of site generators."""
    parser = MarkdownIt("commonmark", {"maxNesting": MAX_NESTING}, renderer_cls=Renderer)
    parser.enable(["table", "strikethrough"])
    parser.block.ruler.before("fence", "site_block", take_block, {"alt": ["paragraph"]})
    parser.block.ruler.at("html_block", take_markup, {"alt": ["paragraph", "reference"]})
    parser.block.ruler.at("reference", take_definition)
    parser.inline.ruler.before("autolink", "site_tag", take_site_tag)
    parser.core.ruler.push("close", close_elements)
    return parser


class Renderer(RendererHTML):
    """Writes pictures as elements with their alternative texts."""

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Write the address and the alternative text of a picture."""
        words = self.renderInlineAsText(tokens[idx].children, options, env)
        address = escape(str(tokens[idx].attrs.get("src", "")))
        return f'<{PICTURE} src="{address}">{escape(words)}</{PICTURE}>'


def mark_furniture(root: Any) -> None:
    """Mark badges, linked pictures, lines of links and sponsors' lists; name kinds of alerts."""
    heading, linked = "", set(root.xpath(f"//a//img | //a//{PICTURE}"))
    for element in root.iter(*HEADINGS, PICTURE, "p", "div", "center", "table", "ul"):
        if element.tag == PICTURE:
            is_furniture = element in linked or BADGE.search(element.get("src", "")) is not None
        elif element.tag in ("table", "ul"):
            has_pictures = not linked.isdisjoint(element.iter("img", PICTURE))
            is_furniture = has_pictures and SPONSORS.search(heading) is not None
        else:
            heading = element.text_content() if element.tag in HEADINGS else heading
            is_furniture = is_line_of_links(element)
        if is_furniture:
            element.set("class", FURNITURE)
    for line in root.xpath("//blockquote/p[1]"):
        line.text = ALERT.sub(lambda mark: f"{mark[1].capitalize()}: ", line.text or "", count=1)


def is_line_of_links(element: Any) -> bool:
    """True if only marks such as `|` and `•` stand between the links of a short element."""
    if len(list(islice(element.iter(), 200))) == 200:
        return False
    texts = element.xpath(".//text()[not(ancestor::a)]")
    n_marks = sum(not text.isspace() for text in texts)
    is_line = n_marks >= LEAST_LINKS - 1 and all(map(BETWEEN_LINKS.fullmatch, texts))
    return is_line and n_marks < len(element.findall(".//a"))


def take_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Take a block of a site generator: its code, or nothing of it."""
    block = SITE_BLOCK.match(state.src, state.bMarks[start] + state.tShift[start])
    if block is None:
        return False
    if not silent:
        state.line = min(start + 1 + block[0].count("\n"), end)
        if block["code"] is not None:
            token = state.push("fence", "code", 0)
            token.content = state.getLines(start + 1, state.line - 1, state.blkIndent, True)
    return True


def take_markup(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Take a block of markup, if it begins with an element of HTML."""
    tag = TAG.match(state.src, state.bMarks[start] + state.tShift[start])
    if tag and not is_markup(tag, state.env):
        return False
    return html_block(state, start, end, silent)


def take_definition(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Take a definition of a link, but no footnote."""
    is_note = state.src.startswith("[^", state.bMarks[start] + state.tShift[start])
    return not is_note and reference(state, start, end, silent)


def take_site_tag(state: StateInline, silent: bool) -> bool:
    """Take a tag of a site generator, and write its titles."""
    tag = SITE_TAG.match(state.src, state.pos)
    if tag is None or (written := write_titles(tag, state.env)) == tag[0]:
        return False
    if not silent:
        state.push("text", "", 0).content = written
    state.pos = tag.end()
    return True


def write_titles(tag: re.Match[str], env: EnvType) -> str:
    """Write the titles in a tag; a name in angle brackets that nothing closes stays."""
    is_open = tag["name"] and not tag[0].endswith("/>")
    if is_open and tag["name"].lower() not in env["closed"]:
        return tag[0]
    titles = ", ".join(title for _, title in TITLE.findall(tag[0]))
    return titles and f"{titles} "


def is_markup(tag: re.Match[str], env: EnvType) -> bool:
    """True if a tag is an element of HTML, or may hide text; a bare name that nothing closes is
    mostly a placeholder."""
    name, rest = tag["name"].lower(), tag["rest"].strip(" /\n")
    if name not in ELEMENTS:
        return MAY_HIDE.search(rest) is not None
    return bool(tag["end"] or rest) or name in UNENDED or name in env["closed"]


def close_elements(state: StateCore) -> None:
    """Close elements at the end of their paragraph; tags that are no markup become text."""
    for block in state.tokens:
        if block.type == "html_block":
            block.content = SITE_TAG.sub(partial(write_titles, env=state.env), block.content)
        if block.children:
            block.children += list(mark_text(block.children, state.env))


def mark_text(tokens: Sequence[Token], env: EnvType) -> Iterator[Token]:
    """Turn tags of a paragraph that are no markup into text; yield the missing end tags."""
    opened: list[str] = []
    for token in tokens:
        if token.type != "html_inline":
            continue
        tag = TAG.match(token.content)
        if tag is None:
            token.type = "html_inline" if re.match(r"<[!?][A-Za-z[-]", token.content) else "text"
            continue
        name = tag["name"].lower()
        if tag["end"] and name in opened:
            del opened[opened.index(name) :]
        elif not is_markup(tag, env):
            token.type = "text"
        elif not tag["end"] and name not in EMPTY and not token.content.endswith("/>"):
            opened.append(name)
    for name in reversed(opened):
        yield Token("html_inline", "", 0, content=f"</{name}>")
