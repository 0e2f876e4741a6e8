"""Passages that look like secrets: keys, tokens and passwords, by the rules of detect-secrets.

Takes text, gives sorts and positions, never the secrets. Nothing is verified with anyone: rules
are matched here, and no socket is opened.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detect_secrets.plugins.base import RegexBasedDetector

# Rules are asked only about stretches around what one of these finds, so that text without
# secrets takes one pass, and loads no rules.
_WORDS_FOR_PASSWORD = (
    r"(?:pass(?:word|code|phrase|wort|wd)|kennwort|pw|mot de passe|contrase(?:n|ñ)a|senha|parola"
    r"|wachtwoord|has(?:l|ł)o|пароль|密码|密碼|パスワード|비밀번호)"
)
_LONG_WORD = re.compile(r"(?<![\w+=-])[A-Za-z0-9_+=-]{13,}")
_HINT = re.compile(
    r"(?:key|pass|passwd|password|pwd|secret|token|contrase(?:n|ñ)a)\w{0,20}[\]'\")]{0,3}\s{0,4}[:=(]"
    r"|://[^\s/:@]{0,80}:[^\s/@]{1,80}@|BEGIN [A-Z0-9 ]{0,20}PRIVATE KEY|PuTTY-User-Key-File"
    rf"|\b{_WORDS_FOR_PASSWORD}\b|\bcurl\b|\bauthorization\b"
    r"|\bhf_[A-Za-z]{8}",
    re.I,
)
BEFORE, AFTER = 100, 300  # characters around a hint that rules are asked about

#: Modules of `detect_secrets.plugins`, but for those that take digests and addresses for secrets.
PLUGINS = (
    "artifactory", "aws", "azure_storage_key", "basic_auth", "cloudant", "discord", "github_token",
    "gitlab_token", "ibm_cloud_iam", "ibm_cos_hmac", "jwt", "mailchimp", "npm", "openai",
    "private_key", "pypi_token", "sendgrid", "slack", "softlayer", "square_oauth", "stripe",
    "telegram_token", "twilio",
)  # fmt: skip
_BASIC_AUTH, _PRIVATE_KEY = "Basic Auth Credentials", "Private Key"
#: Shapes that it does not know yet.
NEWER = (
    ("GitHub Token", re.compile(r"github_pat_[A-Za-z0-9_]{22,90}")),
    ("Anthropic API Key", re.compile(r"sk-ant-[A-Za-z0-9_-]{20,150}")),
    ("OpenAI Token", re.compile(r"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,200}")),
    ("Hugging Face Token", re.compile(r"\bhf_[A-Za-z]{34}\b")),
    ("Google API Key", re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b")),
    ("NPM Token", re.compile(r"\bnpm_[A-Za-z0-9]{36}\b")),
    ("Docker Token", re.compile(r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,60}")),
    ("DigitalOcean Token", re.compile(r"\bdo[opr]_v1_[a-f0-9]{64}\b")),
    ("Doppler Token", re.compile(r"\bdp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9.]{30,80}")),
    ("Linear API Key", re.compile(r"\blin_api_[A-Za-z0-9]{32,60}\b")),
    ("Vault Token", re.compile(r"\bhv[sbr]\.[A-Za-z0-9_-]{20,200}")),
    ("Groq API Key", re.compile(r"\bgsk_[A-Za-z0-9]{40,60}\b")),
    ("xAI API Key", re.compile(r"\bxai-[A-Za-z0-9]{60,100}\b")),
    ("Shopify Token", re.compile(r"\bshp(?:at|ca|pa|ss)_[a-f0-9]{32}\b")),
    ("Stripe Webhook Secret", re.compile(r"\bwhsec_[A-Za-z0-9+/]{24,64}")),
    ("Pulumi Token", re.compile(r"\bpul-[a-f0-9]{40}\b")),
    ("Terraform Token", re.compile(r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{60,70}")),
    ("age Secret Key", re.compile(r"\bAGE-SECRET-KEY-1[A-Z0-9]{50,60}\b")),
    ("Discord Webhook", re.compile(r"discord(?:app)?\.com/api/webhooks/\d{17,20}/[\w-]{60,80}")),
    ("Azure Signature", re.compile(r"[?&]sig=[A-Za-z0-9%+/]{40,60}(?:%3D|=)")),
    (
        "Authorization Header",
        re.compile(r"\b(?:Bearer|Basic) (?=\S{0,99}(?:\d|[a-z][A-Z]))[\w+/=.-]{16,400}"),
    ),
    (_BASIC_AUTH, re.compile(r"\b[a-z]{2,12}://:(?=[^\s/@]{0,80}\d)[^\s/@]{6,80}@")),
)
#: What stands where a key would, in manuals; and where a password would.
_PLACEHOLDER = re.compile(r"example|sample|redacted|xxxx|\*\*\*|\.\.\.|…|<|>|\$\{|\{\{", re.I)
_NO_PASSWORD = re.compile(
    _PLACEHOLDER.pattern + r"|dummy|placeholder|change.?me|your|insert|foobar|secret|passw|token"
    r"|\$|%\(|12345|abcde",
    re.I,
)
KEYWORD = "Password or key"
MIN_PASSWORD = 8

Rule = Callable[[str], Iterator[tuple[str, str]]]


def find_secrets(text: str) -> Iterator[tuple[str, int]]:
    """Yield (sort of secret, position) of each, in order."""
    seen: set[tuple[str, str]] = set()
    for start, stop in find_stretches(text):
        stretch = text[start:stop]
        for rule in load_rules():
            for line_start, line in split_lines(stretch):
                for what, secret in rule(line):
                    # Stretches overlap; and one secret in two places is still one to withdraw.
                    if (what, secret) not in seen:
                        seen.add((what, secret))
                        yield what, start + line_start + max(0, line.find(secret))


def find_stretches(text: str) -> list[tuple[int, int]]:
    """Stretches of a text, none longer than a few hints, that rules should be asked about."""
    hints = [match.start() for match in _HINT.finditer(text)]
    words = (match for match in _LONG_WORD.finditer(text))
    hints += [word.start() for word in words if any(map(str.isdigit, word[0]))]
    stretches: list[tuple[int, int]] = []
    for hint in sorted(hints):
        if not stretches or hint + AFTER // 3 > stretches[-1][1]:
            stretches.append((max(0, hint - BEFORE), min(len(text), hint + AFTER)))
    return stretches


def split_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (position, line) of a text."""
    start = 0
    for line in text.split("\n"):
        yield start, line
        start += len(line) + 1


@cache
def load_rules() -> Sequence[Rule]:
    """The rules, loaded when a text first hints at a secret."""
    from detect_secrets.plugins.base import RegexBasedDetector

    rules: list[Rule] = [find_newer, find_told, make_keyword_rule()]
    for name in PLUGINS:
        for detector in vars(import_module(f"detect_secrets.plugins.{name}")).values():
            is_rule = isinstance(detector, type) and issubclass(detector, RegexBasedDetector)
            if is_rule and detector.__module__.endswith(name):
                rules.append(make_rule(detector()))
    return rules


def make_rule(detector: "RegexBasedDetector") -> Rule:
    """A rule of one of the library's detectors."""

    def find(line: str) -> Iterator[tuple[str, str]]:
        for pattern in detector.denylist:
            for match in pattern.finditer(line):
                # Its own look at a match goes beyond the pattern: a web token must decode.
                is_secret = any(detector.analyze_string(match[0]))
                if is_secret and is_shaped(detector.secret_type, match):
                    yield detector.secret_type, match[0]

    return find


def make_keyword_rule() -> Rule:
    """A rule for values beside a name such as "password", in all ways that the library knows."""
    from detect_secrets.plugins.keyword import REGEX_BY_FILETYPE, KeywordDetector
    from detect_secrets.util.filetype import FileType

    detector = KeywordDetector()
    unquoted = REGEX_BY_FILETYPE[FileType.CONFIG]

    def find(line: str) -> Iterator[tuple[str, str]]:
        found = (
            *detector.analyze_string(line),
            *detector.analyze_string(line, denylist_regex_to_group=unquoted),
        )
        for value in found:
            word = next(iter((value or "").split()), "").strip("\"'`.,;:()[]")
            if looks_chosen(word):
                yield KEYWORD, word

    return find


def looks_chosen(word: str) -> bool:
    """Whether a word may be a password: letters with digits or signs, and no placeholder."""
    return (
        len(word) >= MIN_PASSWORD
        and any(map(str.isalpha, word))
        and any(map(str.isdigit, word))
        and not word.lower().startswith(("http", "www.", "/"))
        and not _NO_PASSWORD.search(word)
    )


def is_shaped(what: str, match: "re.Match[str]") -> bool:
    """Whether what a rule of the library found may be a secret, and no word or placeholder."""
    if what == _BASIC_AUTH:
        return not _NO_PASSWORD.search(match[1])
    has_digit = any(map(str.isdigit, match[0]))
    return (has_digit or what == _PRIVATE_KEY) and not _PLACEHOLDER.search(match[0])


#: A password told in prose, in a table, or on a command line.
_TOLD = re.compile(
    rf"\b{_WORDS_FOR_PASSWORD}(?: is| ist| est| es)?"
    r"(?:\s{0,3}[:=|：]{1,2}\s{0,3}|\s{1,3})(\S{8,80})"
    r"|\bcurl\b.{0,80} (?:-u|--user) ?[^\s:]{1,40}:(\S{8,80})",
    re.I,
)


def find_told(line: str) -> Iterator[tuple[str, str]]:
    """Passwords after a word for one, in more languages than the library has."""
    for match in _TOLD.finditer(line):
        word = (match[1] or match[2]).strip("\"'`.,;:()[]|")
        if looks_chosen(word):
            yield KEYWORD, word


def find_newer(line: str) -> Iterator[tuple[str, str]]:
    """What the package's own rules find."""
    for what, pattern in NEWER:
        for match in pattern.finditer(line):
            if not _PLACEHOLDER.search(match[0]):
                yield what, match[0]
