import dataclasses
import math

import pytest

from d2l.errors import CheckpointError
from d2l.hypernets.doc_to_lora.released import _get
from d2l.hypernets.formats.fields import to_float
from d2l.hypernets.text_to_lora.released import _read_flags, _read_scale
from tests import tiny
from tests.hypernets import text_networks

HUGE = 10**400


def test_whole_numbers_too_large_for_a_float_are_infinite() -> None:
    assert (to_float(HUGE), to_float(-HUGE), to_float(3)) == (math.inf, -math.inf, 3.0)


def test_huge_numbers_of_configurations_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"solve_epsilon is .*, expected a number above 0"):
        dataclasses.replace(tiny.make_seats_config(), solve_epsilon=HUGE)
    with pytest.raises(CheckpointError, match="scale is not a finite number"):
        tiny.make_doc_to_lora_config("llama", scale=HUGE)
    for name in ("scale", "delta_scaling"):
        with pytest.raises(CheckpointError, match=f"{name} is not a"):
            text_networks.make_config(**{name: HUGE})


def test_huge_numbers_of_released_files_become_infinite_and_are_refused_later() -> None:
    assert _get({"lora_alpha": HUGE}, "lora_alpha", float) == math.inf
    with pytest.raises(CheckpointError, match=r"^lora_alpha is a value of type int, expected"):
        _read_scale({"r": 8, "lora_alpha": HUGE})
    flags = _read_flags({"training_task": "recon", "delta_w_scaling": HUGE})
    assert flags["delta_scaling"] == math.inf
