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
    "box-sizing": (1, _words("content-box border-box")),
    "float": (1, _words("none left right inline-start inline-end")),
    "color-scheme": (4, _words("normal light dark only")),
    "contain": (5, _words("none strict content size inline-size layout style paint")),
}
#: Words that stand together in `display`, one of a kind.
DISPLAYS = {
    **dict.fromkeys(("block", "inline"), "outside"),
    **dict.fromkeys(_words("flow flow-root table flex grid ruby math"), "inside"),
    "list-item": "item",
}
_AUTO, _NO_WORDS = _words("auto"), _words("")
_SIZED = _words(
    "auto none min-content max-content fit-content stretch -webkit-fill-available "
    "-moz-available -webkit-min-content -webkit-max-content -webkit-fit-content"
)
_SIZES = ("width", "height", "min-width", "min-height", "max-width", "max-height")
#: (how many values at most, the words among them) of properties that take lengths and shares.
LENGTHS: dict[str, tuple[int, frozenset[str]]] = {
    **dict.fromkeys(("left", "right", "top", "bottom"), (1, _AUTO)),
    **dict.fromkeys(("margin-left", "margin-top", "margin-right", "margin-bottom"), (1, _AUTO)),
    **dict.fromkeys(
        ("padding-left", "padding-right", "padding-top", "padding-bottom"), (1, _NO_WORDS)
    ),
    **dict.fromkeys(_SIZES, (1, _SIZED)),
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
    "width height min-width min-height max-width max-height font-size line-height padding "
    "padding-left padding-right padding-top padding-bottom padding-inline padding-block"
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
#: How many arguments those of a transform take.
COUNTS = {
    "translate": (1, 2), "scale": (1, 2), "skew": (1, 2), "translate3d": (3, 3),
    "scale3d": (3, 3), "matrix": (6, 6), "matrix3d": (16, 16), "rotate3d": (4, 4),
}  # fmt: skip
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
#: Properties that browsers know besides those above: what sheets ask for.
OTHER_PROPERTIES = _words(
    "accent-color align-content align-items align-self animation animation-name "
    "animation-timeline appearance aspect-ratio backdrop-filter -webkit-backdrop-filter "
    "backface-visibility -webkit-appearance background-attachment background-blend-mode "
    "background-origin background-position background-repeat background-size border "
    "border-collapse border-color border-image border-radius border-style border-width bottom "
    "box-decoration-break -webkit-box-decoration-break box-shadow caret-color clear "
    "column-count column-gap column-width columns container container-type content "
    "corner-shape counter-increment cursor direction field-sizing flex flex-basis flex-direction "
    "flex-flow flex-grow flex-shrink flex-wrap font-family font-feature-settings "
    "font-kerning font-optical-sizing font-palette font-stretch font-style font-variant "
    "font-variant-caps font-variation-settings font-weight gap grid grid-area grid-auto-columns "
    "grid-auto-flow grid-auto-rows grid-column grid-gap grid-row grid-template "
    "grid-template-areas grid-template-columns grid-template-rows hanging-punctuation hyphens "
    "-webkit-hyphens image-rendering initial-letter -webkit-initial-letter isolation "
    "justify-content justify-items justify-self letter-spacing -webkit-line-clamp line-break "
    "list-style mask mask-image -webkit-mask -webkit-mask-image "
    "mix-blend-mode object-fit object-position offset-path order orphans outline overflow-anchor "
    "overflow-wrap overscroll-behavior -webkit-overflow-scrolling perspective place-content "
    "place-items place-self pointer-events quotes resize rotate row-gap scroll-behavior "
    "scroll-margin scroll-margin-top scroll-padding scroll-snap-align scroll-snap-type "
    "scroll-timeline scrollbar-color scrollbar-gutter scrollbar-width shape-outside "
    "-webkit-tap-highlight-color tab-size table-layout text-align text-decoration "
    "text-decoration-color text-decoration-skip-ink text-decoration-thickness text-emphasis "
    "text-justify text-orientation text-overflow text-shadow text-size-adjust "
    "-webkit-text-size-adjust -webkit-text-stroke text-transform text-underline-offset text-wrap "
    "touch-action transform-origin transform-style transition unicode-bidi user-select "
    "-webkit-user-select vertical-align view-transition-name widows will-change word-break "
    "word-spacing word-wrap writing-mode z-index anchor-name position-anchor position-area "
    "position-try animation-range view-timeline interpolate-size"
)
