"""The child process that renders one chat template like transformers. Imports jinja2 alone.

`chat_templates` starts it; errors of a template are part of its reply.
"""

import json
import os
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from d2l.files.child_side import serve


class _Generation(Extension):
    """The block that marks answers for training; prompts keep its content."""

    tags = {"generation"}  # noqa: RUF012 - an instance variable of the base class

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Parse the statements inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def main() -> None:
    """Render the template on stdin."""
    serve(answer)


def answer(request: dict[str, Any], tokenizer: bytes) -> dict[str, Any]:
    """Render turns to a text, or to the reason why that fails; a given tokenizer.json must encode
    the text, too."""
    try:
        text = render(request["template"], request["turns"], request["answering"], request["names"])
        if len(text) > request["max_chars"]:
            return {"failed": f"it writes more than {request['max_chars']:,} characters"}
        if tokenizer:
            _encode(tokenizer, text)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a template may raise anything
        return {"failed": f"{type(error).__name__}: {error}"[:1000]}
    return {"text": text}


def render(
    template: str, turns: list[dict[str, str]], answering: bool, names: dict[str, str]
) -> str:
    """Render turns; `names` are the tokenizer's special tokens, which a template may use
    (huggingface/transformers 5.24, utils/chat_template_utils.py: _cached_compile_jinja_template).
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    compiled = environment.from_string(template)
    return compiled.render(
        messages=turns, tools=None, documents=None, add_generation_prompt=answering, **names
    )


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _encode(tokenizer: bytes, text: str) -> None:
    os.environ["RAYON_NUM_THREADS"] = "1"  # threads take address space, which is bounded
    import tokenizers

    tokenizers.Tokenizer.from_str(tokenizer.decode("utf-8")).encode(text, add_special_tokens=False)
