"""`inspect` and `checkpoints ls`: facts as values, and the picture in the terminal."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from d2l.adapters.info import describe_adapter, read_info
from d2l.commands.checkpoints import describe_checkpoint
from tests import tiny
from tests.command import Command
from tests.compiled import compile_tiny, make_document
from tests.task_adapters import write_task


def lines_of(command: Command, *words: object) -> list[str]:
    done = command(*words)
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


def test_inspect_shows_provenance(tmp_path: Path, command: Command) -> None:
    done = compile_tiny(tmp_path, "mistral", chunk_tokens=40)
    lines = lines_of(command, "inspect", done.adapter)
    facts = dict(line.split("  ", 1) for line in lines)
    facts = {name: value.strip() for name, value in facts.items()}
    assert facts["base"] == "tiny-org/mistral-tiny"
    assert facts["rank"] == f"{done.plan.rank} (alpha {done.plan.rank})"
    assert facts["modules"] == f"down_proj in layers 0-{tiny.N_LAYERS - 1}"
    assert facts["merge"] == "concat"
    assert facts["input"].startswith("handbook.txt (text, sha256 0000000000000000")


def test_inspect_of_a_compressed_adapter_tells_the_error(tmp_path: Path, command: Command) -> None:
    done = compile_tiny(tmp_path, "llama", max_rank=2)
    (merge,) = [line for line in lines_of(command, "inspect", done.adapter) if "merge" in line]
    worst = max(json.loads((done.adapter / "d2l.json").read_text("utf-8"))["merge_error"].values())
    full = done.plan.cut.full_rank
    assert merge.split("  ", 1)[1].strip() == (
        f"concat, rank {full} cut to 2, error at most {worst:.2%}"
    )


def test_inspect_of_an_adapter_of_another_tool(tmp_path: Path, command: Command) -> None:
    adapter = tmp_path / "foreign"
    adapter.mkdir()
    config = {"r": 2, "lora_alpha": 4, "base_model_name_or_path": "some/base"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.7.self_attn.q_proj.lora_{}.weight"
    tensors = {name.format("A"): torch.ones(2, 8), name.format("B"): torch.ones(8, 2)}
    save_file(tensors, adapter / "adapter_model.safetensors")
    done = command("inspect", adapter)
    assert done.code == 0
    names = [line.split()[0] for line in done.out.splitlines()]
    assert names == ["adapter", "base", "rank", "modules", "size"]
    assert "q_proj in layers 7-7" in done.out
    assert done.err == "no d2l.json: made by another tool, so its documents are unknown\n"


def test_inspect_of_an_adapter_on_the_head_alone(tmp_path: Path, command: Command) -> None:
    """A module whose name has no dot in it."""
    pair = {"lm_head": (torch.ones(4, 32), torch.ones(420, 4))}
    adapter = write_task(tmp_path / "head", pair, base="org/base")
    values = json.loads(command("inspect", adapter, "--json").out)
    assert (values["modules"], values["layers"], values["rank"]) == (["lm_head"], [], 4)
    assert "lm_head" in command("inspect", adapter).out


def test_inspect_as_json_holds_what_is_stored(tmp_path: Path, command: Command) -> None:
    done = compile_tiny(tmp_path, "seats")
    values = json.loads(command("inspect", done.adapter, "--json").out)
    assert values["provenance"] == json.loads((done.adapter / "d2l.json").read_text())
    assert values["layers"] == [1, 2]  # the tiny seats start at layer 1
    assert values["modules"] == ["k_proj", "v_proj"]
    assert values == describe_adapter(read_info(done.adapter))


def test_mixtures_are_shown_without_what_they_do_not_know(tmp_path: Path, command: Command) -> None:
    """They have neither a network of their own nor ranks of one chunk."""
    done = compile_tiny(tmp_path, "llama")
    other = compile_tiny(tmp_path / "other", "llama", make_document("second.txt"))
    record = json.loads((other.adapter / "d2l.json").read_text("utf-8"))
    record["checkpoint"]["sha256"] = "0" * 64
    (other.adapter / "d2l.json").write_text(json.dumps(record), "utf-8")
    mixed = tmp_path / "mixed.lora"
    merged = command("merge", done.adapter, other.adapter, "-o", mixed, "--max-rank", "2")
    assert merged.code == 0, merged.err
    shown = command("inspect", mixed)
    assert (shown.code, shown.err) == (0, "")
    assert "checkpoint merge\n" in shown.out
    assert "cut to 2, error at most" in shown.out


def test_checkpoint_is_described_without_its_weights(tmp_path: Path, command: Command) -> None:
    checkpoint = tiny.write_seats(tmp_path / "seats")
    values = describe_checkpoint(str(checkpoint), offline=True)
    assert (values["network"], values["format"]) == ("seats", "seats")
    assert values["config"]["base"] == "tiny-org/llama-tiny"
    lines = lines_of(command, "checkpoints", "ls", checkpoint)
    names = [line.split()[0] for line in lines]
    assert names[:5] == ["name", "path", "format", "network", "sha256"]
    assert len(names) == len(set(names))
