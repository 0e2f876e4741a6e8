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
# Longer than those stretches: its two parts that can be read, which one rule is asked about.
_WEB_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]{5,8000}={0,2}\.[\w-]{3,50000}={0,2}", re.A)
BEFORE, AFTER = 100, 300  # characters around a hint that rules are asked about

#: Modules of `detect_secrets.plugins`, but for those that take digests and addresses for secrets.
PLUGINS = (
    "artifactory", "aws", "azure_storage_key", "basic_auth", "cloudant", "discord", "github_token",
    "gitlab_token", "ibm_cloud_iam", "ibm_cos_hmac", "mailchimp", "npm", "openai",
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
    ("OpenRouter API Key", re.compile(r"\bsk-or-v1-[a-f0-9]{64}\b")),
    ("Google Client Secret", re.compile(r"\bGOCSPX-[A-Za-z0-9_-]{20,40}")),
    ("Google Access Token", re.compile(r"\bya29\.[A-Za-z0-9_-]{20,250}")),
    ("Grafana Token", re.compile(r"\bglsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}\b")),
    ("Replicate Token", re.compile(r"\br8_[A-Za-z0-9]{36,40}\b")),
    ("Perplexity API Key", re.compile(r"\bpplx-[A-Za-z0-9]{40,60}\b")),
    ("NVIDIA API Key", re.compile(r"\bnvapi-[A-Za-z0-9_-]{60,80}")),
    ("Notion Token", re.compile(r"\bntn_[A-Za-z0-9]{40,50}\b|\bsecret_[A-Za-z0-9]{43}\b")),
    ("Figma Token", re.compile(r"\bfig[dour]_[A-Za-z0-9_-]{38,60}")),
    ("Postman API Key", re.compile(r"\bPMAK-[A-Za-z0-9]{24}-[A-Za-z0-9]{34}\b")),
    ("Databricks Token", re.compile(r"\bdapi[a-f0-9]{32}(?:-\d)?\b")),
    ("Atlassian Token", re.compile(r"\bATATT3[A-Za-z0-9_=-]{40,250}")),
    ("New Relic API Key", re.compile(r"\bNRAK-[A-Z0-9]{26,30}\b")),
    ("Telegram Bot Token", re.compile(r"(?<!\d)\d{8,10}:AA[A-Za-z0-9_-]{33}(?![\w-])")),
    # Without a name, or with signs that the library's rule ends at.
    (
        _BASIC_AUTH,
        re.compile(
            r"\b[a-z][a-z0-9+]{1,20}://(?:|[^\s/:@]{1,80}(?=:[^\s/@]{0,80}[!$&'()*+,;=?#\[\]:])):"
            r"(?=[^\s/@]{0,80}\d)([^\s/@]{6,80})@"
        ),
    ),
)
#: What stands where a key would, in manuals; and where a password would.
_PLACEHOLDER = re.compile(r"example|sample|redacted|xxxx|\*\*\*|\.\.\.|…|<|>|\$\{|\{\{", re.I)
_NO_PASSWORD = re.compile(
    _PLACEHOLDER.pattern + r"|dummy|placeholder|change.?me|your|insert|foobar|^\$|\$[({]|%\(", re.I
)
# Words that placeholders are made of, and passwords too: it is the rest that tells.
_USUAL = re.compile(
    r"secret|passw(?:[o0]rd|ort|d)?|token|12345(?:6(?:7(?:8(?:90?)?)?)?)?|abcde", re.I
)
_BESIDE_USUAL = re.compile(r"my|the|key|test|user|admin|name", re.I)
_MIN_REST = 4  # letters and digits
KEYWORD = "Password or key"
MIN_PASSWORD = 8

Rule = Callable[[str], Iterator[tuple[str, str]]]


def find_secrets(text: str) -> Iterator[tuple[str, int]]:
    """Yield (sort of secret, position) of each."""
    seen: set[tuple[str, str]] = set()
    for token in _WEB_TOKEN.finditer(text):
        for what, secret in load_web_token_rule()(token[0]):
            if (what, secret) not in seen:
                seen.add((what, secret))
                yield what, token.start()
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


@cache
def load_web_token_rule() -> Rule:
    """The library's rule for tokens of the web, which are longer than other secrets."""
    from detect_secrets.plugins.jwt import JwtTokenDetector

    return make_rule(JwtTokenDetector())


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
        and not stands_for_password(word)
    )


def stands_for_password(word: str) -> bool:
    """Whether a word stands where a password would: a placeholder, or made of usual words alone."""
    if _NO_PASSWORD.search(word):
        return True
    rest, n_usual = _USUAL.subn("", word)
    return n_usual > 0 and sum(map(str.isalnum, _BESIDE_USUAL.sub("", rest))) < _MIN_REST


def is_shaped(what: str, match: "re.Match[str]") -> bool:
    """Whether what a rule of the library found may be a secret, and no word or placeholder."""
    if what == _BASIC_AUTH:
        return not stands_for_password(match[1])
    has_digit = any(map(str.isdigit, match[0]))
    return (has_digit or what == _PRIVATE_KEY) and not _PLACEHOLDER.search(match[0])


#: A password told in prose, in a table, in markup, or on a command line.
_TOLD = re.compile(
    rf"\b{_WORDS_FOR_PASSWORD}(?: is| was| ist| lautet| heißt| est| es| è| é)?"
    r"(?:\s{0,3}[:=|：]{1,2}\s{0,3}|\s{1,3})(\S{8,80})"
    r"|<(?:\w{0,20}:)?(?:password|passwd|pwd|secret|api_?key)(?: [^<>]{0,80})?>([^<>\s]{8,80})</"
    r"|\bcurl\b.{0,80} (?:-u|--user) ?[^\s:]{1,40}:(\S{8,80})"
    r"|\bsshpass\b.{0,40} -p ?(\S{8,80})"
    r"|\b(?:mysql\w{0,9}|mariadb)\b.{0,120}? (?-i:-p)(\S{8,80})"
    r"|\bnet use\b.{0,80} /user:\S{1,60} (\S{8,80})",
    re.I,
)
#: A key whose name is of two words, or of one that other things have, too.
_KEY_TOLD = re.compile(
    rf"(?:\b{_WORDS_FOR_KEY}(?: is| ist| lautet)?|\bapikey)(?:\s{{0,3}}[:=|]\s{{0,3}}|\s)"
    r"([\w+/=.-]{16,200})|(?:\b|_)token\s{0,3}[:=|]\s{0,3}([\w+/=.-]{20,200})",
    re.I,
)


def find_told(line: str) -> Iterator[tuple[str, str]]:
    """Passwords and keys after a word for one, in more ways and languages than the library has."""
    for pattern in (_TOLD, _KEY_TOLD):
        for match in pattern.finditer(line):
            word = next(filter(None, match.groups()), "").strip("\"'`.,;:()[]|")
            if looks_chosen(word):
                yield KEYWORD, word


def find_newer(line: str) -> Iterator[tuple[str, str]]:
    """What the package's own rules find."""
    for what, pattern in NEWER:
        for match in pattern.finditer(line):
            if what == _BASIC_AUTH and stands_for_password(match[1]):
                continue
            if not _PLACEHOLDER.search(match[0]):
                yield what, match[0]
