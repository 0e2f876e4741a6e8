"""Colors of a DOCX document's theme, by the names that its text calls them.

Takes a document of python-docx, gives six digits by name; reads only the theme and the settings.
"""

from collections.abc import Mapping
from typing import Any

import lxml.etree

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_KIND = "/theme"  # the end of a relation's type
#: Names of text and ground that the settings may map otherwise: (attribute there, usual color).
_MAPPED = {
    "background1": ("bg1", "light1"),
    "background2": ("bg2", "light2"),
    "text1": ("t1", "dark1"),
    "text2": ("t2", "dark2"),
}
_SHORT = {"light1": "lt1", "dark1": "dk1", "light2": "lt2", "dark2": "dk2"}


def read_theme(document: Any) -> Mapping[str, str]:
    """Six digits by name ("background1"); empty where no theme can be read."""
    parts = [
        relation.target_part
        for relation in document.part.rels.values()
        if relation.reltype.endswith(_KIND) and not relation.is_external
    ]
    parser = lxml.etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        root = lxml.etree.fromstring(parts[0].blob, parser)
    except (IndexError, lxml.etree.LxmlError):  # none, or a damaged one: nothing is known of it
        return {}
    own = {}
    for element in root.iterfind(f"{DRAWING}themeElements/{DRAWING}clrScheme/*"):
        exact = element.find(DRAWING + "srgbClr")
        of_system = element.find(DRAWING + "sysClr")
        digits = exact.get("val", "") if exact is not None else ""
        if of_system is not None:
            digits = of_system.get("lastClr", "")
        own[str(element.tag).rpartition("}")[2]] = digits
    found = {name: own[short] for name, short in _SHORT.items() if short in own}
    mapping = document.settings.element.find(W + "clrSchemeMapping")
    for name, (attribute, usual) in _MAPPED.items():
        called = mapping.get(W + attribute, usual) if mapping is not None else usual
        if called in found:
            found[name] = found[called]
    return found
