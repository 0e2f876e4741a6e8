"""A page of a PDF, written by hand."""

from collections.abc import Sequence

from tests.documents.samples import HALF_EM, write_objects

FONT = "/Resources << /Font << /F1 3 0 R >> >>"


def build(content: str, *, resources: str = "", page: str = "", catalog: str = "",
          extra: Sequence[str] = (), font: bytes = HALF_EM) -> bytes:  # fmt: skip
    """A page with entries of its own; extra objects are numbered from 6."""
    return write_objects(
        [
            f"<< /Type /Catalog /Pages 2 0 R {catalog} >>".encode(),
            b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            font,
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] {page} "
            f"/Resources << /Font << /F1 3 0 R >> {resources} >> /Contents 5 0 R >>".encode(),
            *(text.encode("cp1252") for text in (stream(content), *extra)),
        ]
    )


def stream(content: str, entries: str = "") -> str:
    return f"<< {entries} /Length {len(content)} >>\nstream\n{content}\nendstream"


def form(content: str, entries: str = FONT, box: str = "0 0 612 792") -> str:
    return stream(content, f"/Type /XObject /Subtype /Form /BBox [{box}] {entries}")
