"""Word documents whose words another program finds, too, with the words that d2l leaves out."""

from tests.documents.samples import make_zip

_OFFICE = "http://schemas.openxmlformats.org"
_WORD = "http://schemas.microsoft.com/office/word/2010"
RELATIONS = f"{_OFFICE}/officeDocument/2006/relationships"
PACKAGE = f"{_OFFICE}/package/2006"
TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml"
SPACES = {
    "w": f"{_OFFICE}/wordprocessingml/2006/main", "r": RELATIONS,
    "m": f"{_OFFICE}/officeDocument/2006/math", "a": f"{_OFFICE}/drawingml/2006/main",
    "mc": f"{_OFFICE}/markup-compatibility/2006", "v": "urn:schemas-microsoft-com:vml",
    "wp": f"{_OFFICE}/drawingml/2006/wordprocessingDrawing",
    "wps": f"{_WORD}/wordprocessingShape", "wpg": f"{_WORD}/wordprocessingGroup",
}  # fmt: skip
NAMES = " ".join(f'xmlns:{name}="{space}"' for name, space in SPACES.items())


def make(body: str, section: str = "", **parts: str) -> bytes:
    """A document with other parts by their names, such as "footnotes"."""
    types = "".join(
        f'<Override PartName="/word/{name}.xml" ContentType="{TYPE}.{name}+xml"/>'
        for name in ("document.main", *parts)
    ).replace("/document.main.xml", "/document.xml")
    relations = "".join(
        f'<Relationship Id="{name}" Type="{RELATIONS}/{name}" Target="{name}.xml"/>'
        for name in parts
    )
    running = "".join(
        f'<w:{name}Reference w:type="default" r:id="{name}"/>'
        for name in ("header", "footer")
        if name in parts
    )
    names = f'xmlns="{PACKAGE}/relationships"'
    members = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" '
        f'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>{types}</Types>',
        "_rels/.rels": f'<Relationships {names}><Relationship Id="r" Target="word/document.xml" '
        f'Type="{RELATIONS}/officeDocument"/></Relationships>',
        "word/_rels/document.xml.rels": f"<Relationships {names}>{relations}"
        f'<Relationship Id="link" Type="{RELATIONS}/hyperlink" Target="https://example.org/" '
        'TargetMode="External"/></Relationships>',
        "word/document.xml": f"<w:document {NAMES}><w:body>{body}<w:sectPr>{running}{section}"
        '<w:pgSz w:w="11906" w:h="16838"/></w:sectPr></w:body></w:document>',
    }
    for name, content in parts.items():
        root = {"header": "hdr", "footer": "ftr"}.get(name, name)
        members[f"word/{name}.xml"] = f"<w:{root} {NAMES}>{content}</w:{root}>"
    return make_zip({name: text.encode() for name, text in members.items()})


def run(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def p(*content: str, properties: str = "") -> str:
    """A paragraph of texts and markup."""
    inner = "".join(item if item[:1] == "<" else run(item) for item in content)
    return f"<w:p><w:pPr>{properties}</w:pPr>{inner}</w:p>"


def inside(tag: str, *content: str, attributes: str = "") -> str:
    return f"<w:{tag} {attributes}>{''.join(content)}</w:{tag}>"


def cell(*content: str, properties: str = "") -> str:
    inner = "".join(item if item[:1] == "<" else p(item) for item in content)
    width = '<w:tcW w:w="2000" w:type="dxa"/>'
    return f"<w:tc><w:tcPr>{width}{properties}</w:tcPr>{inner}</w:tc>"


def table(*rows: str) -> str:
    grid = '<w:tblPr/><w:tblGrid><w:gridCol w:w="2000"/><w:gridCol w:w="2000"/></w:tblGrid>'
    return f"<w:tbl>{grid}{''.join(rows)}</w:tbl>{p('after it')}"


def row(*cells: str) -> str:
    return f"<w:tr>{''.join(cells)}</w:tr>"


def numbered(text: str, number: int, depth: int = 0) -> str:
    listed = f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{number}"/></w:numPr>'
    return p(text, properties=listed)


def level(depth: int, start: int, kind: str, text: str) -> str:
    return (
        f'<w:lvl w:ilvl="{depth}"><w:start w:val="{start}"/><w:numFmt w:val="{kind}"/>'
        f'<w:lvlText w:val="{text}"/></w:lvl>'
    )


LEVELS = {
    1: level(0, 5, "decimal", "%1.") + level(1, 1, "lowerLetter", "%2)")
    + level(2, 1, "lowerRoman", "%1.%3"),
    2: level(0, 1, "upperRoman", "Article %1"),
    3: level(0, 1, "bullet", "•"),
    4: level(0, 7, "decimalZero", "%1"),
    5: level(0, 25, "upperLetter", "(%1)"),
}  # fmt: skip
NUMBERING = "".join(
    f'<w:abstractNum w:abstractNumId="{n}">{levels}</w:abstractNum>' for n, levels in LEVELS.items()
) + "".join(f'<w:num w:numId="{n}"><w:abstractNumId w:val="{n}"/></w:num>' for n in LEVELS)
RESTART = (
    '<w:num w:numId="6"><w:abstractNumId w:val="1"/><w:lvlOverride w:ilvl="0">'
    '<w:startOverride w:val="3"/></w:lvlOverride></w:num>'
)


def field(code: str, result: str) -> str:
    marks = {name: f'<w:r><w:fldChar w:fldCharType="{name}"/></w:r>' for name in FIELD}
    code = f"<w:r><w:instrText> {code} </w:instrText></w:r>"
    return marks["begin"] + code + marks["separate"] + run(result) + marks["end"]


FIELD = ("begin", "separate", "end")


def note(kind: str, *more: str) -> str:
    return (
        f'<w:{kind} w:type="separator" w:id="0">{p()}</w:{kind}><w:{kind} w:id="2">'
        f"{p(f'<w:r><w:{kind}Ref/></w:r>', ' the noted words', *more)}"
        f"{table(row(cell('table in', 'the note')))}</w:{kind}>"
    )


def refer(kind: str) -> str:
    return f'<w:r><w:{kind}Reference w:id="2"/></w:r>'


def shape(content: str) -> str:
    """A text box in a group of drawings, and as older programs know it."""
    place = '<a:xfrm><a:off x="0" y="0"/><a:ext cx="2400000" cy="900000"/></a:xfrm>'
    return (
        '<w:r><mc:AlternateContent><mc:Choice Requires="wpg"><w:drawing><wp:inline>'
        '<wp:extent cx="2400000" cy="900000"/><wp:docPr id="3" name="g"/><a:graphic>'
        f'<a:graphicData uri="{SPACES["wpg"]}"><wpg:wgp><wpg:cNvGrpSpPr/>'
        f"<wpg:grpSpPr/><wps:wsp><wps:cNvSpPr/><wps:spPr>{place}"
        '<a:prstGeom prst="rect"/></wps:spPr><wps:txbx><w:txbxContent>'
        f"{content}</w:txbxContent></wps:txbx><wps:bodyPr/></wps:wsp></wpg:wgp></a:graphicData>"
        "</a:graphic></wp:inline></w:drawing></mc:Choice>"
        f"<mc:Fallback>{vml(content)}</mc:Fallback></mc:AlternateContent></w:r>"
    )


def vml(content: str) -> str:
    box = f"<v:textbox><w:txbxContent>{content}</w:txbxContent></v:textbox>"
    return f'<w:pict><v:shape style="width:100pt;height:50pt">{box}</v:shape></w:pict>'


def control(content: str) -> str:
    return f"<w:sdt><w:sdtPr/><w:sdtContent>{content}</w:sdtContent></w:sdt>"


def math(text: str) -> str:
    return f"<m:r><m:t>{text}</m:t></m:r>"


FRACTION = f"<m:f><m:num>{math('alpha')}</m:num><m:den>{math('beta')}</m:den></m:f>"
FORMULA = f"<m:oMath>{FRACTION}{math('=7')}</m:oMath>"
CHANGED, DECIMAL = 'w:id="1" w:author="A"', '<w:endnotePr><w:numFmt w:val="decimal"/></w:endnotePr>'
RUBY = inside("rt", run("reading")) + inside("rubyBase", run("base"))
CHOICE = '<w:dropDownList><w:listItem w:displayText="Bergen" w:value="2"/></w:dropDownList>'

#: Documents, and the words that are left out and counted.
CASES: dict[str, tuple[bytes, str]] = {
    "plain": (make(p("Two plain words")), ""),
    "nested tables": (
        make(table(row(cell("Outer", table(row(cell("inner cell")))), cell("beside")))), ""
    ),
    "merged cells": (
        make(table(row(cell("tall", properties='<w:vMerge w:val="restart"/>'), cell("one")),
                   row(cell("", properties="<w:vMerge/>"), cell("two")),
                   row(cell("wide words", properties='<w:gridSpan w:val="2"/>')))), "",
    ),
    "text under a merged cell": (
        make(table(row(cell("tall", properties='<w:vMerge w:val="restart"/>'), cell("one")),
                   row(cell("buried words", properties="<w:vMerge/>"), cell("two")))),
        "buried words",
    ),
    "inserted row": (
        make(table(f"<w:tr><w:trPr><w:ins {CHANGED}/></w:trPr>{cell('new row')}</w:tr>")), ""
    ),
    "lists": (
        make(numbered("first", 1) + numbered("inner", 1, 1) + numbered("other", 1, 1)
             + numbered("deep", 1, 2) + numbered("second", 1) + numbered("inner", 1, 1)
             + numbered("article", 2) + numbered("dotted", 3) + numbered("padded", 4)
             + numbered("lettered", 5) + numbered("next", 5) + numbered("doubled", 5)
             + numbered("third", 6), numbering=NUMBERING + RESTART), "",
    ),
    "footnote": (make(p("Body", refer("footnote"), " ends"), footnotes=note("footnote")), ""),
    "endnote": (make(p("Body", refer("endnote")), DECIMAL, endnotes=note("endnote")), ""),
    "note with a link": (
        make(p("Body", refer("footnote")), footnotes=note(
            "footnote", inside("hyperlink", run(" linked"), attributes='r:id="link"'),
            "<w:r><w:tab/></w:r>", "tabbed")), "",
    ),
    "comment": (
        make(p("Remarked", '<w:r><w:commentReference w:id="2"/></w:r>'),
             comments=f'<w:comment w:id="2" w:author="Ann">{p("a comment")}</w:comment>'),
        "a comment",
    ),
    "header and footer": (
        make(p("Body"), header=p("Running words"), footer=p("Page ", field("PAGE", "1"))),
        "Running words Page 1",
    ),
    "text box": (make(p("Before ", shape(p("boxed words") + table(row(cell("cell"))))), ""), ""),
    "older text box": (make(p("Before", f"<w:r>{vml(p('drawn words'))}</w:r>")), ""),
    "fields": (
        make(p("Of ", field("AUTHOR", "Ann"), " in ", inside(
            "fldSimple", run("result"), attributes='w:instr=" QUOTE result "'))), "",
    ),
    "table of contents": (make(p(field('TOC \\o "1-3"', "Contents entry 7"))), ""),
    "links": (
        make(p("Go ", inside("hyperlink", run("linked words"), attributes='r:id="link"'),
               field('HYPERLINK "https://example.org"', " linked by a field"))), "",
    ),
    "changes": (
        make(p("Kept ", inside("ins", run("inserted "), attributes=CHANGED),
               inside("del", "<w:r><w:delText> deleted</w:delText></w:r>", attributes=CHANGED))),
        "deleted",
    ),
    "content controls": (
        make(control(p("block")) + p(control(run("inline"))) + control(control(p("deep")))
             + table(control(row(cell("row"), cell("x"))), row(control(cell("cell")), cell("y")))),
        "",
    ),
    "choice": (
        make(p("City: ", f"<w:sdt><w:sdtPr>{CHOICE}</w:sdtPr><w:sdtContent>{run('Bergen')}"
               "</w:sdtContent></w:sdt>")), "",
    ),
    "custom markup": (
        make(inside("customXml", p("block"), attributes='w:element="a"')
             + p(inside("customXml", run("inline"), attributes='w:element="a"'),
                 inside("smartTag", run(" smart words"), attributes='w:element="a"'))
             + table(row(inside("customXml", cell("cell"), attributes='w:element="a"')))), "",
    ),
    "formula": (make(p("Area ", FORMULA) + p(f"<m:oMathPara>{FORMULA}</m:oMathPara>")), ""),
    "signs": (
        make(p("Angle ", '<w:r><w:sym w:font="Symbol" w:char="F061"/></w:r>',
               '<w:r><w:sym w:font="Arial" w:char="0416"/></w:r>')), "",
    ),
    "breaks": (
        make(p("one", "<w:r><w:tab/></w:r>", "two", "<w:r><w:br/></w:r>", "three",
               '<w:r><w:br w:type="page"/></w:r>', "four", "<w:r><w:cr/></w:r>", "five",
               '<w:r><w:ptab w:relativeTo="margin" w:alignment="right" w:leader="none"/></w:r>',
               "six")), "",
    ),
    "hyphens": (
        make(p("soft", "<w:r><w:softHyphen/></w:r>", "hyphen non",
               "<w:r><w:noBreakHyphen/></w:r>", "break so\u00adft")), "",
    ),
    "ruby": (make(p(f"<w:r><w:ruby><w:rubyPr/>{RUBY}</w:ruby></w:r>")), ""),
    "hidden": (make(p("Seen ", run("vanished words", "<w:vanish/>"))), "vanished words"),
    "from right to left": (
        make(p(run("اقرأ دليل المضخة 42", "<w:rtl/>"), properties="<w:bidi/>")), ""
    ),
    "looks of letters": (
        make(p(run("capitals", "<w:caps/>"), run(" small ones", "<w:smallCaps/>"),
               run(" struck", "<w:strike/>"), run(" 2", '<w:vertAlign w:val="superscript"/>'))), "",
    ),
    "frame": (
        make(p("framed words", properties='<w:framePr w:w="2000" w:h="800" w:wrap="around" '
               'w:vAnchor="text" w:hAnchor="page" w:x="1000" w:y="100"/>') + p("body")), "",
    ),
    "sections": (make(p("first section", properties="<w:sectPr/>") + p("second section")), ""),
    "directions": (
        make(p(inside("dir", run("turned"), attributes='w:val="rtl"'),
               inside("bdo", run(" forced"), attributes='w:val="ltr"'))), "",
    ),
}  # fmt: skip
