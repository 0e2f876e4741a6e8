"""The part of Go's text/template that exported Modelfiles use, so that tests can run them.

Written after the language's documentation (pkg.go.dev/text/template), not after our `ollama.py`:
if, else if, else, range, end; variables; eq, ne, and; fields, strings, parentheses. No trimming.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[()]|[^\s()]+')


def render(template: str, data: Mapping[str, Any]) -> str:
    """Execute a template on data; fields are those of Ollama: System and Messages."""
    pieces = [piece for piece in re.split(r"(\{\{.*?\}\})", template, flags=re.DOTALL) if piece]
    run = _Run(pieces, data)
    text = run.block(data, active=True)
    assert run.at == len(pieces), "an end too many"
    return text


def collate(messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """What Ollama gives a template: system texts joined in System, all messages in Messages."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    found = [{"Role": m["role"], "Content": m["content"]} for m in messages]
    return {"System": system, "Messages": found}


@dataclass
class _Run:
    pieces: list[str]
    root: Mapping[str, Any]
    at: int = 0
    variables: dict[str, Any] = field(default_factory=dict)

    def block(self, dot: Any, *, active: bool) -> str:
        """Everything up to the end, else or end of input that closes this block."""
        out = []
        while self.at < len(self.pieces):
            piece = self.pieces[self.at]
            words = list(_tokens(piece))
            if words and words[0] in ("end", "else"):
                return "".join(out)
            self.at += 1
            if not piece.startswith("{{"):
                out.append(piece if active else "")
            elif words[0] == "if":
                out.append(self._choose(words[1:], dot, active=active))
            elif words[0] == "range":
                out.append(self._repeat(words[1:], dot, active=active))
            elif active and len(words) > 2 and words[1] in (":=", "="):
                assert words[1] == ":=" or words[0] in self.variables
                self.variables[words[0]] = self._value(words[2:], dot)
            elif active:
                out.append(str(self._value(words, dot)))
        return "".join(out)

    def _choose(self, condition: list[str], dot: Any, *, active: bool) -> str:
        taken = bool(self._value(condition, dot)) if active else False
        text = self.block(dot, active=active and taken)
        words = list(_tokens(self.pieces[self.at]))
        self.at += 1
        if words[:2] == ["else", "if"]:
            return text + self._choose(words[2:], dot, active=active and not taken)
        if words[0] == "else":
            text += self.block(dot, active=active and not taken)
            self.at += 1
        return text

    def _repeat(self, what: list[str], dot: Any, *, active: bool) -> str:
        start, out = self.at, []
        for item in self._value(what, dot) if active else []:
            self.at = start
            out.append(self.block(item, active=True))
        if not out:
            self.block(dot, active=False)
        self.at += 1
        return "".join(out)

    def _value(self, words: list[str], dot: Any) -> Any:
        value, rest = self._call(words, dot)
        assert not rest, f"left over: {rest}"
        return value

    def _call(self, words: list[str], dot: Any) -> tuple[Any, list[str]]:
        if words[0] not in ("eq", "ne", "and"):
            return self._term(words, dot)
        name, (left, rest) = words[0], self._term(words[1:], dot)
        right, rest = self._term(rest, dot)
        results = {"eq": left == right, "ne": left != right, "and": right if left else left}
        return results[name], rest

    def _term(self, words: list[str], dot: Any) -> tuple[Any, list[str]]:
        word, rest = words[0], words[1:]
        if word == "(":
            value, rest = self._call(rest, dot)
            assert rest[0] == ")"
            return value, rest[1:]
        if word.startswith('"'):
            return json.loads(word), rest
        if word in ("true", "false"):
            return word == "true", rest
        if word.startswith("$."):
            return self.root[word[2:]], rest
        if word.startswith("$"):
            return self.variables[word], rest
        assert word.startswith("."), f"unknown: {word}"
        return dot[word[1:]], rest


def _tokens(piece: str) -> Iterator[str]:
    return iter(_TOKEN.findall(piece[2:-2]) if piece.startswith("{{") else ())
