"""Chat templates of adapters: d2l recognizes its own; a stranger's runs in a child process.

A template is a program by the adapter's author. Jinja's sandbox keeps it from the machine, but not
from running for ever or writing gigabytes. Text in, text out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from d2l.errors import AdapterError
from d2l.files.child import Limits, Stopped, ask_child
from d2l.files.printable import printable

#: The start of a ChatML prompt, which every opening of a seats adapter begins with.
SYSTEM = "<|im_start|>system\n"
_MAX_CHARS = 1_000_000
#: Usual templates take milliseconds; the start of the child takes most of the time.
LIMITS = Limits(seconds=5.0, memory_bytes=1_000_000_000, reply_bytes=16 * _MAX_CHARS)
_WORKER = "d2l.bases.template_worker"
_HINT = "put back the file that came with the adapter, or compile the document again"


def write_template(opening: str) -> str:
    """Write a ChatML template (Jinja) that begins with an opening, which begins with `SYSTEM`.

    A system message of the caller follows the opening on a new line, inside the same turn.
    """
    system = opening.removeprefix(SYSTEM).replace("\\", "\\\\").replace("'", "\\'")
    return (
        f"{{%- set opening = '{system}' -%}}\n"
        "{%- if messages and messages[0]['role'] == 'system' -%}\n"
        "{%- set turns = messages[1:] -%}\n"
        "{{- '<|im_start|>system\\n' + opening -}}\n"
        "{%- if messages[0]['content'] and messages[0]['content'] != opening -%}\n"
        "{{- '\\n' + messages[0]['content'] -}}\n"
        "{%- endif -%}\n"
        "{%- else -%}\n"
        "{%- set turns = messages -%}\n"
        "{{- '<|im_start|>system\\n' + opening -}}\n"
        "{%- endif -%}\n"
        "{{- '<|im_end|>\\n' -}}\n"
        "{%- for message in turns -%}\n"
        "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}\n"
        "{%- endfor -%}\n"
        "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}\n"
    )


def is_own(template: object, opening: str | None) -> bool:
    """True if a template equals that of d2l for an opening: it then needs no child process. A
    tokenizer may have several templates, or none."""
    return (
        opening is not None and opening.startswith(SYSTEM) and template == write_template(opening)
    )


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
