"""Names of adapters come from the names of their documents."""

import pytest

from d2l.compiler.names import name_adapters


@pytest.mark.parametrize(
    ("documents", "adapters"),
    [
        (["docs/manual.pdf", "faq.md", "-"], ["manual", "faq", "stdin"]),
        (["manual.pdf", "manual.md", "faq.md"], ["manual.pdf", "manual.md", "faq"]),
        (["a/manual.pdf", "b/manual.pdf"], ["a-manual.pdf", "b-manual.pdf"]),
        (["x/a/m.pdf", "y/a/m.pdf", "m.md"], ["x-a-m.pdf", "y-a-m.pdf", "m.md"]),
        (["Manual.pdf", "manual.pdf"], ["Manual.pdf", "manual.pdf-2"]),  # one on some file systems
        (["caf\u00e9.txt", "cafe\u0301.txt"], ["caf\u00e9.txt", "caf\u00e9.txt-2"]),
        (["../m.pdf", "/x/m.pdf"], ["m.pdf", "x-m.pdf"]),
        (["a b.txt", "tab\there.txt", "x:y?.txt"], ["a b", "tab_here", "x_y_"]),
        (["-o.txt", "--.txt", " .txt"], ["o", "document", "document-2"]),
        (["stdin.txt", "-"], ["stdin.txt", "stdin"]),
        (["a.pdf", "a.pdf-2.md", "A.pdf"], ["a.pdf", "a.pdf-2", "A.pdf-3"]),
        (["\u65e5\u672c.txt"], ["\u65e5\u672c"]),
        ([], []),
    ],
)
def test_names_are_of_the_documents_and_differ(documents: list[str], adapters: list[str]) -> None:
    found = name_adapters(documents)
    assert found == [f"{name}.lora" for name in adapters]
    assert len({name.casefold() for name in found}) == len(found)


def test_a_long_name_is_cut_to_its_end() -> None:
    (name,) = name_adapters(["x" * 300 + "y.txt"])
    assert name == "x" * 99 + "y.lora"
