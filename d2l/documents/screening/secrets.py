"""Passages that look like secrets: keys, tokens and passwords, by the rules of detect-secrets.

Text in, sorts and positions out, never the secrets. No secret is verified with a service, so no
socket is opened.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detect_secrets.plugins.base import RegexBasedDetector

# Rules run only on stretches around a match of these patterns, so text without secrets takes one
# pass, and loads no rules.
_WORDS_FOR_PASSWORD = (
    r"(?:pass(?:word|code| ?phrase|wort|wd)|kennwort|pw|mot de passe|contrase(?:n|ñ)a|senha|parola"
    r"|(?:wi-?fi|wlan)[ -](?:key|schlüssel)"
    r"|wachtwoord|has(?:l|ł)o|пароль|密码|密碼|パスワード|비밀번호)"
)
_WORDS_FOR_KEY = r"(?:(?:api|access|auth|secret|client|service|account)[ -]key)"
_LONG_WORD = re.compile(r"(?<![\w+=-])[A-Za-z0-9_+=-]{13,}")
_HINT = re.compile(
    r"(?:key|pass|passwd|password|pwd|secret|token|contrase(?:n|ñ)a)\w{0,20}[\]'\")]{0,3}\s{0,4}[:=(]"
    r"|://[^\s/:@]{0,80}:[^\s/@]{1,80}@|BEGIN [A-Z0-9 ]{0,20}PRIVATE KEY|PuTTY-User-Key-File"
    rf"|\b{_WORDS_FOR_PASSWORD}\b|\bcurl\b|\bauthorization\b"
    rf"|\b{_WORDS_FOR_KEY}\b|</?pwd>|\b(?:sshpass|mysql\w{{0,9}}|mariadb|net use)\b"
    r"|\bhf_[A-Za-z]{8}",
    re.I,
)
# The two readable sections of a token that is longer than those stretches.
_WEB_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]{5,8000}={0,2}\.[\w-]{3,50000}={0,2}", re.A)
_LINE = re.compile(r"[^\n]+")
BEFORE, AFTER = 100, 300  # characters around a hint that rules search

#: Rules of the library that do not run: addresses are no secrets, and `_WEB_TOKEN` is longer.
_LEFT_OUT = ("Public IP (ipv4)", "JSON Web Token")
_BASIC_AUTH, _PRIVATE_KEY = "Basic Auth Credentials", "Private Key"
#: Prefixes of keys that the library does not know, before letters and digits alone,
_BEFORE_LETTERS = (
    ("Hugging Face Token", "hf_"), ("NPM Token", "npm_"), ("DigitalOcean Token", "do[opr]_v1_"),
    ("Doppler Token", r"dp\.(?:pt|st|ct|sa|scim|audit)\."), ("Linear API Key", "lin_api_"),
    ("Groq API Key", "gsk_"), ("xAI API Key", "xai-"), ("Shopify Token", "shp(?:at|ca|pa|ss)_"),
    ("Pulumi Token", "pul-"), ("age Secret Key", "AGE-SECRET-KEY-1"), ("Grafana Token", "glsa_"),
    ("OpenRouter API Key", "sk-or-v1-"), ("Replicate Token", "r8_"), ("Databricks Token", "dapi"),
    ("Perplexity API Key", "pplx-"), ("Notion Token", "ntn_"), ("Postman API Key", "PMAK-"),
    ("New Relic API Key", "NRAK-"), ("Stripe Webhook Secret", "whsec_"),
)  # fmt: skip
#: and of keys that hold other signs, too.
_BEFORE_SIGNS = (
    ("GitHub Token", "github_pat_"), ("Anthropic API Key", "sk-ant-"), ("Google API Key", "AIza"),
    ("OpenAI Token", "sk-(?:proj|svcacct|admin)-"), ("Docker Token", "dckr_(?:pat|oat)_"),
    ("Vault Token", r"hv[sbr]\."), ("Google Client Secret", "GOCSPX-"),
    ("NVIDIA API Key", "nvapi-"), ("Google Access Token", r"ya29\."), ("Figma Token", "fig[dour]_"),
    ("Atlassian Token", "ATATT3"), ("Terraform Token", r"[A-Za-z0-9]{14}\.atlasv1\."),
)  # fmt: skip


def _match_any(beginnings: Sequence[tuple[str, str]], rest: str) -> "re.Pattern[str]":
    return re.compile(rf"\b(?:{'|'.join(f'({begin})' for _, begin in beginnings)}){rest}")


_BEGINNINGS = (
    (_BEFORE_LETTERS, _match_any(_BEFORE_LETTERS, "[A-Za-z0-9]{24,200}")),
    (_BEFORE_SIGNS, _match_any(_BEFORE_SIGNS, "[A-Za-z0-9_=-]{20,250}")),
)
_SHAPES = (
    ("Discord Webhook", re.compile(r"discord(?:app)?\.com/api/webhooks/\d{17,20}/[\w-]{60,80}")),
    ("Azure Signature", re.compile(r"[?&]sig=[A-Za-z0-9%+/]{40,60}(?:%3D|=)")),
    ("Telegram Bot Token", re.compile(r"(?<!\d)\d{8,10}:AA[A-Za-z0-9_-]{33}(?![\w-])")),
    (
        "Authorization Header",
        re.compile(r"\b(?:Bearer|Basic) (?=\S{0,99}(?:\d|[a-z][A-Z]))[\w+/=.-]{16,400}"),
    ),
)
#: Addresses with a password, but no name, or with signs that end the library's rule.
_ADDRESS = re.compile(
    r"\b[a-z][a-z0-9+]{1,20}://(?:|[^\s/:@]{1,80}(?=:[^\s/@]{0,80}[!$&'()*+,;=?#\[\]:])):"
    r"(?=[^\s/@]{0,80}\d)([^\s/@]{6,80})@"
)
#: Placeholders for keys in manuals, and for passwords.
_PLACEHOLDER = re.compile(r"example|sample|redacted|xxxx|\*\*\*|\.\.\.|…|<|>|\$\{|\{\{", re.I)
_NO_PASSWORD = re.compile(
    _PLACEHOLDER.pattern + r"|dummy|placeholder|change.?me|your|insert|foobar|^\$|\$[({]|%\(", re.I
)
# Words in placeholders, but also in passwords: only the rest of the word distinguishes them.
_USUAL = re.compile(
    r"secret|passw(?:[o0]rd|ort|d)?|token|12345(?:6(?:7(?:8(?:90?)?)?)?)?|abcde", re.I
)
_BESIDE_USUAL = re.compile(r"my|the|key|test|user|admin|name", re.I)
_MIN_REST = 4  # letters and digits
KEYWORD = "Password or key"
MIN_PASSWORD = 8

Rule = Callable[[str], Iterator[tuple[str, str]]]


def find_secrets(text: str) -> Iterator[tuple[str, int]]:
    """Yield (sort, position) of each different secret."""
    seen: set[tuple[str, str]] = set()
    for sort, secret, at in (*_find_web_tokens(text), *_find_by_rules(text)):
        if (sort, secret) not in seen:  # stretches overlap, and texts repeat secrets
            seen.add((sort, secret))
            yield sort, at


def _find_web_tokens(text: str) -> Iterator[tuple[str, str, int]]:
    for token in _WEB_TOKEN.finditer(text):
        from detect_secrets.plugins.jwt import JwtTokenDetector

        if JwtTokenDetector.is_formally_valid(token[0]) and not _PLACEHOLDER.search(token[0]):
            yield JwtTokenDetector.secret_type, token[0], token.start()


def _find_by_rules(text: str) -> Iterator[tuple[str, str, int]]:
    for start, stop in find_stretches(text):
        for rule in load_rules():
            for line in _LINE.finditer(text, start, stop):
                for sort, secret in rule(line[0]):
                    yield sort, secret, line.start() + max(0, line[0].find(secret))


def find_stretches(text: str) -> list[tuple[int, int]]:
    """List stretches of a text around hints, for the rules to search."""
    hints = [match.start() for match in _HINT.finditer(text)]
    words = (match for match in _LONG_WORD.finditer(text))
    hints += [word.start() for word in words if any(map(str.isdigit, word[0]))]
    stretches: list[tuple[int, int]] = []
    for hint in sorted(hints):
        if not stretches or hint + AFTER // 3 > stretches[-1][1]:
            stretches.append((max(0, hint - BEFORE), min(len(text), hint + AFTER)))
    return stretches


@cache
def load_rules() -> Sequence[Rule]:
    """Load the rules, at the first hint of a secret; without those that take digests for
    secrets."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    rules: list[Rule] = [find_newer, make_keyword_rule()]
    plugins: dict[str, type[Any]] = get_mapping_from_secret_type_to_class()
    for sort, detector in plugins.items():
        if issubclass(detector, RegexBasedDetector) and sort not in _LEFT_OUT:
            rules.append(make_rule(detector()))
    return rules


def make_rule(detector: "RegexBasedDetector") -> Rule:
    """Make a rule of a detector of the library, which ignores words and placeholders."""
    sort = detector.secret_type

    def may_be_secret(match: "re.Match[str]") -> bool:
        if sort == _BASIC_AUTH:
            return not is_placeholder(match[1])
        has_digit = any(map(str.isdigit, match[0]))
        return (has_digit or sort == _PRIVATE_KEY) and not _PLACEHOLDER.search(match[0])

    def find(line: str) -> Iterator[tuple[str, str]]:
        for pattern in detector.denylist:
            yield from ((sort, m[0]) for m in pattern.finditer(line) if may_be_secret(m))

    return find


def make_keyword_rule() -> Rule:
    """Make a rule for values beside a name such as "password", in the library's notations, and in
    more notations and languages."""
    from detect_secrets.plugins.keyword import REGEX_BY_FILETYPE, KeywordDetector
    from detect_secrets.util.filetype import FileType

    detector = KeywordDetector()
    unquoted = REGEX_BY_FILETYPE[FileType.CONFIG]

    def find(line: str) -> Iterator[tuple[str, str]]:
        matches = [m for pattern in (_NAMED_PASSWORD, _NAMED_KEY) for m in pattern.finditer(line)]
        values = (
            *(next(filter(None, match.groups())) for match in matches),
            *detector.analyze_string(line),
            *detector.analyze_string(line, denylist_regex_to_group=unquoted),
        )
        for value in values:
            word = next(iter((value or "").split()), "").strip("\"'`.,;:()[]|")
            if may_be_password(word):
                yield KEYWORD, word

    return find


def may_be_password(word: str) -> bool:
    """True if a word may be a password: it has letters and digits, and is no placeholder."""
    return (
        len(word) >= MIN_PASSWORD
        and any(map(str.isalpha, word))
        and any(map(str.isdigit, word))
        and not word.lower().startswith(("http", "www.", "/"))
        and not is_placeholder(word)
    )


def is_placeholder(word: str) -> bool:
    """True if a word is a placeholder for a password, or consists of usual words alone."""
    if _NO_PASSWORD.search(word):
        return True
    rest, n_usual = _USUAL.subn("", word)
    return n_usual > 0 and sum(map(str.isalnum, _BESIDE_USUAL.sub("", rest))) < _MIN_REST


#: A password beside its name: in prose, in a table, in markup, or on a command line.
_NAMED_PASSWORD = re.compile(
    rf"\b{_WORDS_FOR_PASSWORD}(?: is| was| ist| lautet| heißt| est| es| è| é)?"
    r"(?:\s{0,3}[:=|：]{1,2}\s{0,3}|\s{1,3})(\S{8,80})"
    r"|<(?:\w{0,20}:)?(?:password|passwd|pwd|secret|api_?key)(?: [^<>]{0,80})?>([^<>\s]{8,80})</"
    r"|\bcurl\b.{0,80} (?:-u|--user) ?[^\s:]{1,40}:(\S{8,80})"
    r"|\bsshpass\b.{0,40} -p ?(\S{8,80})"
    r"|\b(?:mysql\w{0,9}|mariadb)\b.{0,120}? (?-i:-p)(\S{8,80})"
    r"|\bnet use\b.{0,80} /user:\S{1,60} (\S{8,80})",
    re.I,
)
#: A key beside its name: two words, or a word that also names other things.
_NAMED_KEY = re.compile(
    rf"(?:\b{_WORDS_FOR_KEY}(?: is| ist| lautet)?|\bapikey)(?:\s{{0,3}}[:=|]\s{{0,3}}|\s)"
    r"([\w+/=.-]{16,200})|(?:\b|_)token\s{0,3}[:=|]\s{0,3}([\w+/=.-]{20,200})",
    re.I,
)


def find_newer(line: str) -> Iterator[tuple[str, str]]:
    """Find (sort, key) of keys that the library has no rules for."""
    keys = [(sort, match[0]) for sort, shape in _SHAPES for match in shape.finditer(line)]
    for names, pattern in _BEGINNINGS:
        keys += [(names[(m.lastindex or 1) - 1][0], m[0]) for m in pattern.finditer(line)]
    addresses = (match for match in _ADDRESS.finditer(line) if not is_placeholder(match[1]))
    keys += [(_BASIC_AUTH, address[0]) for address in addresses]
    return (key for key in keys if not _PLACEHOLDER.search(key[1]))
