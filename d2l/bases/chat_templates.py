"""Chat templates of adapters: d2l recognizes its own; a stranger's runs in a child process.

A template is a program by the adapter's author. Jinja's sandbox keeps it from the machine, but not
from running for ever or writing gigabytes. Text in, text out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from string import Template
from typing import TYPE_CHECKING, Any

from d2l.errors import AdapterError
from d2l.files.child import Limits, Stopped, ask_child
from d2l.files.printable import printable

if TYPE_CHECKING:  # reading turns needs transformers, and writing them does not
    from d2l.bases.turns import TurnTexts

#: The start of a ChatML prompt, which the openings of trained seat networks begin with.
SYSTEM = "<|im_start|>system\n"
_MAX_CHARS = 1_000_000
#: Longest own template beside its opening: every turn repeats some of its texts.
_MOST_TEXTS = 20_000
#: Usual templates take milliseconds; the start of the child takes most of the time.
LIMITS = Limits(seconds=5.0, memory_bytes=1_000_000_000, reply_bytes=16 * _MAX_CHARS)
_WORKER = "d2l.bases.template_worker"
_HINT = "put back the file that came with the adapter, or compile the document again"


def _make_form(instruction: str, conversation: str) -> Template:
    """Make the form of a template, whose texts stand in single quotes."""
    otherwise = "{%- else -%}\n" if instruction else ""
    return Template(
        "{%- set opening = '$opening' -%}\n"
        "{%- if messages and messages[0]['role'] == 'system' -%}\n"
        "{%- set turns = messages[1:] -%}\n"
        "{{- '$head' + opening -}}\n"
        "{%- if messages[0]['content'] and messages[0]['content'] != opening -%}\n"
        "{{- '\\n' + messages[0]['content'] -}}\n"
        f"{otherwise}{instruction}"
        "{%- endif -%}\n"
        "{%- else -%}\n"
        "{%- set turns = messages -%}\n"
        "{{- '$head' + opening -}}\n"
        f"{instruction}"
        "{%- endif -%}\n"
        f"{conversation}"
    )


_CHATML = _make_form(
    "",
    "{{- '<|im_end|>\\n' -}}\n"
    "{%- for message in turns -%}\n"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}\n",
)
_ANY_BASE = _make_form(
    "{{- '$instruction' -}}\n",
    "{{- '$behind_system' -}}\n"
    "{%- for message in turns -%}\n"
    "{%- if message['role'] == 'assistant' -%}\n"
    "{{- '$past_start' + message['content'] + '$answer_end' -}}\n"
    "{%- elif loop.first -%}\n"
    "{{- message['content'] + '$question_end' -}}\n"
    "{%- else -%}\n"
    "{{- '$question_start' + message['content'] + '$question_end' -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{- '$answer_start' -}}{%- endif -%}\n",
)


def write_template(opening: str, turns: "TurnTexts | None" = None, instruction: str = "") -> str:
    """Write a chat template (Jinja) that begins with an opening.

    A system message of the caller follows the opening on a new line, inside the same turn; `turns`
    with an instruction: else the instruction does. The opening begins with the head of `turns`,
    which are the texts of the base's own template; without `turns`, with `SYSTEM` of ChatML.
    """
    if turns is None:
        return _CHATML.substitute(
            head=_escape(SYSTEM), opening=_escape(opening.removeprefix(SYSTEM))
        )
    texts = {name: _escape(text) for name, text in asdict(turns).items()}
    return _ANY_BASE.substitute(
        texts,
        opening=_escape(opening.removeprefix(turns.head)),
        instruction=_escape(f"\n{instruction}" if instruction else ""),
    )


def is_own(template: object, opening: str | None) -> bool:
    """True if a template has the form of d2l's own for an opening: it then needs no child process.
    A tokenizer may have several templates, or none."""
    if opening is None or not isinstance(template, str):
        return False
    if opening.startswith(SYSTEM) and template == write_template(opening):
        return True
    own = _match_form().fullmatch(template)
    escaped = _escape(opening)
    return (
        own is not None
        and own["head"] + own["opening"] == escaped
        and len(template) <= 2 * len(escaped) + _MOST_TEXTS
    )


def _escape(text: str) -> str:
    """Escape a text for single quotes of Jinja, on one line."""
    for plain, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return text


@cache
def _match_form() -> re.Pattern[str]:
    """Make the pattern of all templates for any base: a text in quotes is no program."""
    seen = set[str]()

    def take(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return rf"(?P<{name}>(?:[^'\\]|\\.)*)"

    return re.compile(re.sub(r"\\\$(\w+)", take, re.escape(_ANY_BASE.template)))


def render_apart(
    template: str,
    turns: Sequence[Mapping[str, str]],
    *,
    source: str,
    answering: bool = True,
    names: Mapping[str, Any] | None = None,
    tokenizer: bytes = b"",
) -> str:
    """Render turns with a stranger's template, in a child process under `LIMITS`.

    `names` are the tokenizer's special tokens by name; `tokenizer` is a tokenizer.json that must
    encode the text, too. Raises AdapterError, one line that begins with `source`.
    """
    request = {
        "template": template,
        "turns": [dict(turn) for turn in turns],
        "answering": answering,
        "names": dict(names or {}),
        "max_chars": _MAX_CHARS,
    }
    return _ask(request, tokenizer, f"{source}: the chat template cannot be used")


def try_tokenizer(tokenizer: bytes, *, source: str) -> None:
    """Load a stranger's tokenizer.json in a child process first; raises AdapterError, one line."""
    request = {"template": "", "turns": [], "answering": False, "names": {}, "max_chars": 0}
    _ask(request, tokenizer, f"{source}: the tokenizer cannot be used")


def _ask(request: Mapping[str, Any], tokenizer: bytes, message: str) -> str:
    try:
        reply = ask_child(_WORKER, request, LIMITS, data=tokenizer)
        reason = reply.get("failed")
    except Stopped as stopped:
        reply, reason = {}, _explain(stopped)
    if reason is not None:
        line = printable(" ".join(reason.split()))
        raise AdapterError(f"{message} ({line[:200]})", hint=_HINT)
    return str(reply["text"])


def _explain(stopped: Stopped) -> str:
    return {
        "time": f"it takes more than {LIMITS.seconds:g} seconds",
        "memory": f"it uses more than {LIMITS.memory_bytes / 1e9:g} GB of memory",
        "output": f"it writes more than {_MAX_CHARS:,} characters",
    }.get(stopped.why, stopped.cause)
