"""What `t2l make` says of descriptions unlike those of training, and what --strict does."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d2l.adapters.peft_folder import read_adapter
from d2l.bases.models import find_base
from d2l.hypernets.familiarity import FAMILIARITY_FILE, fit, write_familiarity
from d2l.hypernets.formats import native
from d2l.hypernets.text_to_lora.embedders import load_base_embedders
from tests import tiny, tiny_tasks
from tests.command import Command
from tests.hypernets.text_networks import make_tensors

pytestmark = pytest.mark.usefixtures("one_thread")

KNOWN, STRANGE = "Name the ore of the valley.", "zzzzz qqqq"


@pytest.fixture
def place(working_folder: Path) -> Path:
    """A network that knows descriptions around one text, and holds those around another unlike."""
    tiny_tasks.write_place(working_folder)
    config = tiny_tasks.make_config()
    (working_folder / "net").mkdir()
    native.write_folder(working_folder / "net", config.kind, config.to_json(), make_tensors(config))
    base = find_base(tiny.base_name("llama"), offline=True)
    embedder, _ = load_base_embedders(base, device="cpu")
    known, strange = embedder.embed(KNOWN), embedder.embed(STRANGE)
    noise = torch.randn(40, len(known), generator=torch.Generator().manual_seed(0)) * 0.1
    unlike = strange + noise[:10] / 2
    found = fit(known + noise, known + noise[:10] / 2, unlike, known_unlike=[unlike], salads=unlike)
    familiarity = replace(found, direction=None)  # as older networks have none
    write_familiarity(working_folder / "net" / FAMILIARITY_FILE, familiarity)
    return working_folder


def test_a_familiar_description_says_so(place: Path, command: Command) -> None:
    done = command.t2l("make", KNOWN, "-o", "a", "--checkpoint", "net", "--strict", "--json")
    assert (done.code, done.err) == (0, "")
    values = json.loads(done.out)
    assert values["familiarity"] > 0.9
    shown = f"{values['familiarity']:.2f}"
    recorded = json.loads((place / "a" / "d2l.json").read_text())
    assert recorded["description"]["familiarity"] == values["familiarity"]
    assert f"| familiarity of the task | {shown} of 1" in (place / "a" / "README.md").read_text()
    assert (
        f"familiarity {shown}" in command.t2l("make", KNOWN, "-o", "b", "--checkpoint", "net").out
    )
    assert ["familiarity", shown] in [x.split() for x in command("inspect", "a").out.splitlines()]


def test_a_network_that_reads_questions_tells_by_the_bare_text(
    place: Path, command: Command
) -> None:
    settings = json.loads((place / "net" / "config.json").read_text("utf-8"))
    (place / "net" / "config.json").write_text(json.dumps(settings | {"embeds_question": True}))
    for name, text in (("known", KNOWN), ("strange", STRANGE)):
        done = command.t2l("make", text, "-o", name, "--checkpoint", "net", "--json")
        assert (json.loads(done.out)["familiarity"] > 0.5) == (text is KNOWN)


def test_a_network_that_knows_salads_tells_by_what_it_reads_itself(
    place: Path, command: Command
) -> None:
    """Fitted to descriptions as questions, which bare ones are far from."""
    settings = json.loads((place / "net" / "config.json").read_text("utf-8"))
    (place / "net" / "config.json").write_text(json.dumps(settings | {"embeds_question": True}))
    base = find_base(tiny.base_name("llama"), offline=True)
    bare, asked = load_base_embedders(base, device="cpu")
    known, strange = asked.embed(KNOWN), asked.embed(STRANGE)
    noise = torch.randn(40, len(known), generator=torch.Generator().manual_seed(0)) * 0.1
    away = [bare.embed(KNOWN) + noise, strange + noise]
    familiarity = fit(
        known + noise, known + noise[:10], away[1], known_unlike=away[:1], salads=away[1]
    )
    write_familiarity(place / "net" / FAMILIARITY_FILE, familiarity)
    for name, text in (("known", KNOWN), ("strange", STRANGE)):
        done = command.t2l("make", text, "-o", name, "--checkpoint", "net", "--json")
        assert (json.loads(done.out)["familiarity"] > 0.5) == (text is KNOWN)


def test_a_strange_one_is_a_warning_and_strict_refuses_it(place: Path, command: Command) -> None:
    done = command.t2l("make", STRANGE, "-o", "a", "--checkpoint", "net", "--json")
    values = json.loads(done.out)
    assert values["familiarity"] < 0.1
    (warning,) = values["warnings"]
    assert warning.startswith("the description is unlike those that net was trained on (fam")
    assert (done.code, done.err) == (0, f"warning: {warning}\n")
    assert warning in (place / "a" / "README.md").read_text()
    done = command.t2l("make", STRANGE, "-o", "b", "--checkpoint", "net", "--strict")
    assert (done.code, done.out) == (1, "")
    refused = f"error: --strict: {warning}\nhint: mend what it warns of, or leave --strict out\n"
    assert done.err == f"warning: {warning}\n{refused}"
    assert not (place / "b").exists()


def test_without_the_file_it_is_unknown(place: Path, command: Command) -> None:
    (place / "net" / FAMILIARITY_FILE).unlink()
    done = command.t2l("make", KNOWN, "-o", "a", "--checkpoint", "net", "--json")
    assert json.loads(done.out)["familiarity"] is None
    assert "unknown: the checkpoint does not say" in (place / "a" / "README.md").read_text()


def test_the_compact_form_of_a_run_makes_nearly_the_same_adapters(
    place: Path, command: Command
) -> None:
    assert command("train", "a.toml", "--out", "run").code == 0
    done = command("checkpoints", "export", "run", "-o", "small", "--compact")
    assert (done.code, done.err) == (0, "")
    card = (place / "small" / "README.md").read_text()
    assert card.startswith("# A Text-to-LoRA network for tiny-org/llama-tiny\n")
    assert "t2l make" in card
    assert "d2l-lab eval" in card
    stored = load_file("small/model.safetensors")
    assert stored["heads.v_proj.weight"].dtype == torch.int8
    assert stored["AB_offset.A.v_proj"].dtype == torch.int8
    assert stored["task_encoder.mlp.0.weight"].dtype == torch.float32
    assert (place / "small" / FAMILIARITY_FILE).read_bytes() == (
        place / "run" / FAMILIARITY_FILE
    ).read_bytes()
    for name in ("run", "small"):
        made = command.t2l(
            "make", KNOWN, "-o", f"{name}.lora", "--checkpoint", name, "--dtype", "fp32"
        )
        assert made.code == 0, made.err
    whole, small = (read_adapter(Path(f"{name}.lora")).factors for name in ("run", "small"))
    for name, factors in whole.items():
        delta, other = factors.b @ factors.a, small[name].b @ small[name].a
        # Rows of 8 bits are off by 1/254 of their largest value.
        assert float((delta - other).norm() / delta.norm()) < 0.05
        assert not torch.equal(delta, other)
