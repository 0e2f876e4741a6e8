"""The measure of speed prints figures that fit together; how good they are is for people."""

import re

import pytest

from d2l.bases.models import BaseFiles
from tests.processes import ROOT, run_python


@pytest.mark.slow
def test_speed_prints_a_row_for_every_length(smollm2_files: BaseFiles) -> None:
    assert smollm2_files  # only asks for the base
    done = run_python(ROOT / "tests/tools/speed.py", "--tiny", D2L_CHECKPOINT="smollm2-135m")
    assert done.returncode == 0, done.stderr
    header, _, row, _, header_2, _, *starts = done.stdout.splitlines()
    columns = "tokens read base alone, s compile, s ratio tokens/s peak MB"
    assert " ".join(header.split()) == columns
    tokens, alone, whole, ratio, rate, peak = (float(cell.replace(",", "")) for cell in row.split())
    assert 200 <= tokens < 400
    assert abs(ratio - whole / alone) < 0.01 + 0.02 * ratio / min(alone, whole)  # rounded cells
    assert abs(rate - tokens / whole) < 1 + 0.02 * rate / whole
    assert 300 < peak < 4000
    assert header_2.split() == ["start", "CPU", "s", "s"]
    cells = [re.split(r"\s{2,}", line) for line in starts]
    names = [name for name, *_ in cells]
    assert names == ["bare", "compile", "ratio", "bare with PEFT", "ask", "ratio"]
    for (_, *least), (_, *used), (_, *shown) in (cells[:3], cells[3:]):
        for below, above, quotient in zip(least, used, shown, strict=True):
            assert float(quotient) == pytest.approx(float(above) / float(below), abs=0.02)
