"""EML and MHTML: the subject, people, date and words of an e-mail or a saved page.

Bytes in, one section or those of an HTML page out; attachments are counted, not read.
"""

import email
import email.errors
import email.policy
from dataclasses import replace

from d2l.readers.html import parse_html
from d2l.readers.parsing import Heading, Parsed, ParseRequest, Section, bound_text, damaged

HEADS = ("Subject", "From", "To", "Cc", "Date")
MAIL_ERRORS = (AttributeError, LookupError, TypeError, ValueError, email.errors.MessageError)


def parse_mail(request: ParseRequest) -> Parsed:
    """Read the heads and the body: its plain text, else its page."""
    try:
        message = email.message_from_bytes(request.data, policy=email.policy.default)
        heads = [f"{name}: {message[name]}" for name in HEADS if message[name]]
        title = " ".join(str(message["Subject"] or "").split())
        body = message.get_body(("plain", "html"))
        if body is not None and body.get_content_charset() is None:
            body.set_param("charset", "utf-8")
        content = "" if body is None else str(body.get_content()).replace("\r\n", "\n")
        is_page = message.get_content_type() == "multipart/related"  # with its pictures
        n_attached = 0 if is_page else sum(1 for _ in message.iter_attachments())
    except MAIL_ERRORS as error:
        raise damaged(request, "e-mail", type(error).__name__) from None
    parsed = Parsed((Section(content.strip()),))
    if body is not None and body.get_content_subtype() == "html" and content.strip():
        parsed = parse_html(replace(request, data=content.encode(), encoding="utf-8"))
    headings = (Heading(0, 1, title),) if title else ()
    head = Section("\n".join(heads), heading=title or None, headings=headings)
    sections = [section for section in (head, *parsed.sections) if section.text]
    notes = (f"attachments that are not read: {n_attached}",) if n_attached else ()
    return parsed._replace(
        sections=tuple(bound_text(sections, request)), notes=(*parsed.notes, *notes)
    )
