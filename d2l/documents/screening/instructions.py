"""Passages that address a model instead of a reader: injected instructions, and tokens of chats.

The rules find common attempts; a text without findings is not proven safe.
"""

import re
from collections.abc import Iterator

# Spaces, line ends and signs between words; between words of a fixed order perhaps nothing.
_GAP, _NO_GAP = r"[\s\W]{1,40}", r"[\s\W]{0,40}"
_UP_TO_FOUR = rf"(?:\w{{1,15}}{_GAP}){{0,4}}?"
_EARLIER = r"(?:previous|prior|preceding|above|earlier|foregoing|former|your|original|system)"
_ORDERS = (
    r"(?:instructions?|prompts?|directions|directives?|guidelines|guardrails|commands"
    r"|programming|training)"
)
_TALK = r"(?:messages|context|conversations?|chats?)"
_MODEL = r"(?:ai|chatbot|chatgpt|llm|(?:large )?language model)"
_SPEAKER = r"(?:ai|assistant|chatbot|(?:large )?language model|llm|gpt|dan)"

ASIDE = "to set its instructions aside"

RULES: tuple[tuple[str, "re.Pattern[str]"], ...] = (
    (
        ASIDE,
        re.compile(
            rf"\b(?:ignore|disregard|forget|override|bypass|do(?: not|n['’]t) follow){_GAP}"
            rf"{_UP_TO_FOUR}{_EARLIER}{_GAP}{_UP_TO_FOUR}{_ORDERS}\b"
            rf"|\b(?:ignore|disregard|forget){_NO_GAP}(?:(?:all|any|the|of|my|your){_NO_GAP}){{0,3}}"
            rf"{_EARLIER}{_NO_GAP}{_ORDERS}\b"
            rf"|\b(?:ignore|disregard|forget){_GAP}(?:(?:all|any|the|of){_GAP}){{0,3}}"
            rf"(?:previous|prior|preceding|earlier|foregoing){_GAP}{_TALK}\b"
            r"|(?:^|[.!?\"“*>#-])[ \t]{0,4}(?:please[ ,]{1,3})?(?:ignore|disregard|forget)[ ,]{1,3}"
            r"(?:all )?(?:of )?(?:the )?(?:text |content )?above(?=[.!,;]|[ \t]*$| and )"
            rf"|\bstop following{_GAP}{_EARLIER}{_GAP}{_ORDERS}\b"
            rf"|\b(?:ignore|disregard|forget){_GAP}(?:all|any|every|everything){_GAP}{_UP_TO_FOUR}"
            r"(?:instructions?|prompts?|you (?:were|have been) told|you know|above)\b"
            r"|\b(?:ignor(?:[ae]|era|iere|ieren sie)|vergiss|vergessen sie|missachte(?:n sie)?"
            r"|olvida|olvide|dimentica|desconsidere|esqueça|descarta|negeer|vergeet|zignoruj|zapomnij)"
            r"\b.{1,40}\b(?:anweisungen|vorgaben|instrucciones|instruções|istruzioni|instructies"
            r"|aanwijzingen|instruktioner|anvisning(?:ar|er)|instrukcj|polece)"
            r"|\bignore[rz]?\b.{1,20}\b(?:instructions|consignes)\b.{1,20}\bprécédentes\b"
            r"|\boublie[rz]?\b.{1,30}\b(?:instructions|consignes)\b"
            r"|\b(?:игнорируй|забудь)(?:те)?\b.{1,30}\b(?:инструкци|указани)"
            r"|(?:忽略|无视|無視).{0,8}(?:指令|指示|提示)"
            r"|(?:以前|上記|これまで|前の).{0,6}(?:指示|命令).{0,6}(?:無視|忘れ)"
            r"|\b(?:önceki|yukarıdaki)\b.{1,20}\b(?:talimat|yönerge)\w{0,8}.{1,10}"
            r"\b(?:yok say|unut|görmezden)"
            r"|(?:تجاهل|انس).{1,20}(?:التعليمات|الأوامر)"
            r"|(?:이전|위의).{0,6}(?:지시|명령).{0,6}(?:무시|잊)",
            re.I | re.M,
        ),
    ),
    (
        "to take a role",
        re.compile(
            rf"\byou(?: are|'re|’re) (?:now |no longer |from now on )?(?:an? |the )?"
            rf"(?:\w{{1,15}} ){{0,3}}?{_SPEAKER}\b"
            r"|\b(?:act|behave|respond|pretend to be) (?:as )?(?:if you (?:are|were) )?"
            r"(?:an? |the )?"
            rf"(?:\w{{1,15}} ){{0,2}}?{_SPEAKER}\b"
            r"|\bfrom now on,? you (?:will|must|should|are|shall|have to)\b"
            r"|\bdeveloper mode (?:is )?(?:on|enabled|activated)\b"
            r"|\b(?:enable|activate|enter|switch to) (?:the )?(?:developer|sudo|god|dan) mode\b"
            rf"|\bstop being (?:an? |the )?(?:\w{{1,15}} ){{0,2}}?{_SPEAKER}\b"
            rf"|\bas an? {_SPEAKER}(?: language model)?,? you (?:must|should|will|shall|have to)\b",
            re.I,
        ),
    ),
    (
        "a system prompt",
        re.compile(
            r"\b(?:begin|end|new|updated|your) (?:of )?(?:the )?system"
            r" (?:prompt|message|instructions?)\b"
            r"|^[ \t#*>\[(<]{0,6}system[ _]?(?:prompt|message|instructions?)?"
            r"[\])>* \t]{0,4}:\s{0,3}you\b"
            r"|\b(?:important|new|updated|additional|secret|hidden) instructions?"
            r" (?:to|for) (?:the |any |all )?(?:\w{1,15} )?" + _SPEAKER + r"s?\b"
            r"|\bdo not (?:reveal|tell|mention|disclose|inform)\b.{1,30}\b(?:to )?the user\b"
            r"|\b(?:here are )?your new (?:instructions?|rules|task) (?:are|is)\b"
            rf"|\b(?:note to|attention,?) (?:the |any |all )?(?:\w{{1,15}} )?{_MODEL}s?[ \t]?[:,—]"
            rf"|\b{_SPEAKER} (?:reviewers?|readers?|graders?|agents?) "
            r"(?:must|should|are to|have to)\b"
            r"|\bgive (?:only )?(?:a )?(?:positive|favou?rable) reviews?\b.{0,20}"
            r"\b(?:only|do not)\b"
            r"|[\"']role[\"']\s{0,3}:\s{0,3}[\"'](?:system|developer|assistant)[\"']"
            r"|\b(?:reveal|repeat|print|output|show) (?:me )?(?:your|the)"
            r" (?:system|hidden|initial) (?:prompt|instructions?)\b",
            re.I | re.M,
        ),
    ),
    (
        "tokens of a chat",
        re.compile(
            r"<\|[a-z0-9_▁]{2,40}\|>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>"
            r"|</?(?:tool_calls?|tool_response|function_calls?)>|<(?:bos|eos|unk|pad)>|</?(?:system|assistant)(?:_prompt|_message)?>"
            r"|^\#{2,4} (?:instruction|system)s?:|^Human:(?=.{0,500}\n{1,3}Assistant:)",
            re.I | re.M,
        ),
    ),
)  # fmt: skip


def find_instructions(text: str) -> Iterator[tuple[str, int]]:
    """Yield (sort, position) of passages that address a model."""
    for sort, pattern in RULES:
        read = text.replace("_", " ") if sort == ASIDE else text
        for match in pattern.finditer(read):
            yield sort, match.start()
