"""config.json for runtimes that read what version 4 wrote."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from d2l.bases.gguf import add_old_keys

LINEAR = {"rope_type": "linear", "factor": 2.0}


@pytest.mark.parametrize(
    ("written", "added"),
    [
        (
            {"rope_parameters": {"rope_theta": 1e5, "rope_type": "default"}},
            {"rope_theta": 1e5},
        ),
        (
            {"rope_parameters": {"rope_theta": 500.0, **LINEAR}},
            {"rope_theta": 500.0, "rope_scaling": LINEAR},
        ),
        ({"rope_theta": 1e4}, {}),
        ({"model_type": "qwen2"}, {"architectures": ["Qwen2ForCausalLM"]}),
        ({"model_type": "qwen2", "architectures": ["Own"]}, {}),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, {}),
        ({}, {}),
    ],
)
def test_the_rotary_base_stands_where_version_4_looks_for_it(
    written: dict[str, Any], added: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(written))
    add_old_keys(path)
    assert json.loads(path.read_text()) == written | added


def test_transformers_reads_the_same_from_both(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(rope_theta=1e5)
    config.save_pretrained(tmp_path)
    before = transformers.AutoConfig.from_pretrained(tmp_path).to_dict()
    add_old_keys(tmp_path / "config.json")
    after = transformers.AutoConfig.from_pretrained(tmp_path).to_dict()
    assert after["rope_parameters"] == before["rope_parameters"]
    assert after["rope_parameters"]["rope_theta"] == 1e5
