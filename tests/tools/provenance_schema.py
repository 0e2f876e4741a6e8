"""Writes the JSON schema of d2l.json beside the module that reads it: run by `make docs`."""

import json
from pathlib import Path

from d2l.adapters import provenance

if __name__ == "__main__":
    schema = json.dumps(provenance.Provenance.model_json_schema(), indent=2, sort_keys=True)
    path = Path(provenance.__file__).with_name("provenance.schema.json")
    path.write_text(schema + "\n", "utf-8", newline="\n")
