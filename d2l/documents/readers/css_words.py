"""Words of style sheets: what each property takes, as browsers know it.

Tables alone; lengths, colors and functions are told apart by `css_grammar`.
"""

from d2l.documents.readers.css_values import SIZES


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Values that every property takes.
WIDE = _words("inherit initial unset revert revert-layer")
_OVERFLOW = _words("visible hidden clip scroll auto overlay")
#: (how many values at most, the words among them) of properties that take words alone.
WORDS: dict[str, tuple[int, frozenset[str]]] = {
    "display": (
        3,
        _words(
            "none block inline inline-block flex inline-flex grid inline-grid table inline-table "
            "table-row table-cell table-row-group table-header-group table-footer-group "
            "table-column table-column-group table-caption list-item contents flow-root flow ruby "
            "ruby-text math -webkit-box -webkit-inline-box -webkit-flex -webkit-inline-flex"
        ),
    ),
    "visibility": (1, _words("visible hidden collapse")),
    "position": (1, _words("static relative absolute fixed sticky -webkit-sticky")),
    "overflow": (2, _OVERFLOW),
    "overflow-x": (1, _OVERFLOW),
    "overflow-y": (1, _OVERFLOW),
    "content-visibility": (1, _words("visible auto hidden")),
    "white-space": (
        3,
        _words(
            "normal nowrap pre pre-wrap pre-line break-spaces collapse preserve preserve-breaks "
            "wrap"
        ),
    ),
    "contain": (5, _words("none strict content size inline-size layout style paint")),
}
_AUTO, _NO_WORDS = _words("auto"), _words("")
_SIZED = _words(
    "auto none min-content max-content fit-content stretch -webkit-fill-available "
    "-moz-available -webkit-min-content -webkit-max-content -webkit-fit-content"
)
#: (how many values at most, the words among them) of properties that take lengths and shares.
LENGTHS: dict[str, tuple[int, frozenset[str]]] = {
    **dict.fromkeys(("left", "right", "top", "bottom"), (1, _AUTO)),
    **dict.fromkeys(("margin-left", "margin-top", "margin-right", "margin-bottom"), (1, _AUTO)),
    **dict.fromkeys(("padding-left", "padding-top", "padding-bottom"), (1, _NO_WORDS)),
    **dict.fromkeys(("width", "height", "max-width", "max-height"), (1, _SIZED)),
    **dict.fromkeys(("inset", "margin"), (4, _AUTO)),
    **dict.fromkeys(("inset-inline", "inset-block", "margin-inline", "margin-block"), (2, _AUTO)),
    **dict.fromkeys(("padding-inline", "padding-block"), (2, _NO_WORDS)),
    "padding": (4, _NO_WORDS),
    "font-size": (1, frozenset((*SIZES, "smaller", "larger", "math"))),
    "text-indent": (3, _words("hanging each-line")),
    "line-height": (1, _words("normal")),
    "translate": (3, _words("none")),
}
NUMBERS = {"opacity": (1, _NO_WORDS), "scale": (3, _words("none")),
           "zoom": (1, _words("normal reset"))}  # fmt: skip
NOT_NEGATIVE = _words(
    "width height max-width max-height font-size line-height padding padding-left padding-top "
    "padding-bottom padding-inline padding-block"
)
COLORS = _words("color background-color -webkit-text-fill-color")
BOXES = _words("border-box padding-box content-box text border-area")
#: What may stand in a background beside colors, lengths and pictures.
PAINTED = _words(
    "none repeat repeat-x repeat-y no-repeat space round scroll fixed local left right top bottom "
    "center cover contain auto border-box padding-box content-box text"
)
PICTURES = _words(
    "url src image image-set -webkit-image-set cross-fade -webkit-cross-fade element -moz-element "
    "paint linear-gradient radial-gradient conic-gradient repeating-linear-gradient "
    "repeating-radial-gradient repeating-conic-gradient -webkit-linear-gradient "
    "-webkit-radial-gradient -webkit-gradient -webkit-repeating-linear-gradient "
    "-webkit-repeating-radial-gradient"
)
#: Functions that a property takes, and what is counted in them.
FUNCTIONS: dict[str, dict[str, str]] = {
    "transform": {
        **dict.fromkeys(_words("translate translatex translatey translatez translate3d"), "length"),
        **dict.fromkeys(_words("scale scalex scaley scalez scale3d matrix matrix3d"), "number"),
        **dict.fromkeys(_words("rotate rotatex rotatey rotatez skew skewx skewy"), "angle"),
        **dict.fromkeys(_words("rotate3d perspective"), "any"),
    },
    "filter": {
        **dict.fromkeys(
            _words("brightness contrast grayscale invert opacity saturate sepia"), "number"
        ),
        "blur": "length",
        "hue-rotate": "angle",
        **dict.fromkeys(_words("drop-shadow url"), "any"),
    },
    "clip-path": dict.fromkeys(
        _words("inset circle ellipse polygon path rect xywh shape url"), "any"
    ),
    "clip": {"rect": "any"},
}
SHAPES = _words(
    "round at center left right top bottom nonzero evenodd closest-side farthest-side auto none "
    "border-box padding-box content-box margin-box fill-box stroke-box view-box from to by with "
    "line move hline vline curve smooth arc close of cw ccw small large rotate"
)
AXES = _words("x y z none")
MATH = _words(
    "calc -webkit-calc min max clamp round mod rem abs sign sin cos tan asin acos atan atan2 pow "
    "sqrt hypot log exp"
)
#: Functions whose value only a page's layout tells.
LAID_OUT = _words("anchor anchor-size fit-content calc-size")
CONSTANTS = _words("e pi infinity -infinity nan nearest up down to-zero")
ANGLES = {"deg": 1.0, "grad": 0.9, "rad": 57.29577951308232, "turn": 360.0}
SYSTEM_FONTS = _words("caption icon menu message-box small-caption status-bar")
BEFORE_SIZE = _words(
    "normal italic oblique bold bolder lighter small-caps ultra-condensed extra-condensed "
    "condensed semi-condensed semi-expanded expanded extra-expanded ultra-expanded"
)
