"""The spelling of config.json that runtimes other than transformers 5 read.

transformers 5 writes the rotary embedding's base inside `rope_parameters`; version 4, mlx-lm and
others look for `rope_theta` beside it and else take their own default, without a word.
"""

import json
from pathlib import Path


def add_old_keys(config_json: Path) -> None:
    """Write `rope_theta` and `rope_scaling` as version 4 had them, where they are not there."""
    config = json.loads(config_json.read_text("utf-8"))
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" not in rope or "rope_theta" in config:
        return
    config["rope_theta"] = rope["rope_theta"]
    rest = {key: value for key, value in rope.items() if key != "rope_theta"}
    if rest.get("rope_type", "default") != "default":
        config["rope_scaling"] = rest
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    config_json.write_text(text, "utf-8", newline="\n")
