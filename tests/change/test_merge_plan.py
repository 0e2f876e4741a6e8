"""How many seats each adapter keeps is decided from headers and records alone, without torch."""

import json
import shutil
from pathlib import Path

import pytest

from d2l.adapters.merge_methods import METHODS
from d2l.change import merge_plan
from d2l.change.merge_plan import prepare
from d2l.errors import AdapterError, MergeError
from tests.change.test_merge import compile_apart
from tests.processes import list_imported
from tests.task_adapters import make_factors, write_task

pytestmark = pytest.mark.usefixtures("one_thread")


def change_record(folder: Path, **changes: object) -> None:
    path = folder / "d2l.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def test_what_fits_keeps_its_seats_and_others_get_fewer(tmp_path: Path) -> None:
    done, folders = compile_apart(tmp_path, "seats")
    checkpoint, most = str(done.checkpoint), done.plan.config.max_seats
    plan = prepare(folders, checkpoint=checkpoint, offline=True)
    assert plan.before == plan.after
    assert plan.warnings == ()
    many = folders * 4
    plan = prepare(many, checkpoint=checkpoint, offline=True)
    assert sum(plan.before) > sum(plan.after) == most
    assert all(kept <= had for had, kept in zip(plan.before, plan.after, strict=True))
    assert f"0.lora with {plan.after[0]} of {plan.before[0]}" in plan.warnings[0]


def test_of_adapters_with_parts_only_the_one_memory_loses_seats(tmp_path: Path) -> None:
    """Questions choose a part of the merged adapter, which has as many seats as before."""
    done, folders = compile_apart(tmp_path, "seats")
    for folder in folders:
        change_record(folder, parts_sha256="0" * 64)
    plan = prepare(folders * 4, checkpoint=str(done.checkpoint), offline=True)
    (warning,) = plan.warnings
    assert warning.startswith("questions choose among the parts of all adapters; the one memory")
    assert f"holds {sum(plan.after)} of their {sum(plan.before)} seats" in warning


def test_adapters_that_will_be_forgotten_are_named_with_what_to_do(tmp_path: Path) -> None:
    """Where all together have too many tokens for the seats, small ones keep theirs."""
    done, folders = compile_apart(tmp_path, "seats")
    long = Path(shutil.copytree(folders[1], tmp_path / "long.lora"))
    record = json.loads((long / "d2l.json").read_text("utf-8"))
    change_record(long, chunks=[record["chunks"][0] | {"n_tokens": 5_000}])
    adapters = [folders[0], *[long] * 3]
    plan = prepare(adapters, checkpoint=str(done.checkpoint), offline=True)
    assert sum(plan.after) == done.plan.config.max_seats
    said = plan.warnings[-1]
    assert said.startswith("little will be remembered of long.lora (4,9")
    assert "compile only the pages that matter of the long ones" in said
    assert folders[0].name not in said


def test_adapters_without_seats_are_not_counted(tmp_path: Path) -> None:
    task = write_task(tmp_path / "task", make_factors("llama"), base="b")
    plan = prepare([task, task])
    assert (plan.before, plan.after, plan.warnings) == ((0, 0), (0, 0), ())


def test_seats_that_cannot_stand_side_by_side_are_refused(tmp_path: Path) -> None:
    done, folders = compile_apart(tmp_path, "seats")
    averaged = Path(shutil.copytree(folders[1], tmp_path / "averaged"))
    record = json.loads((averaged / "d2l.json").read_text("utf-8"))
    change_record(averaged, options=record["options"] | {"merge": "average"})
    with pytest.raises(MergeError, match="seats that were averaged are shared"):
        prepare([folders[0], averaged], checkpoint=str(done.checkpoint), offline=True)
    change_record(folders[1], checkpoint=record["checkpoint"] | {"sha256": "0" * 64})
    with pytest.raises(AdapterError, match="was compiled by another network than"):
        prepare(folders, checkpoint=str(done.checkpoint), offline=True)


def test_different_strengths_of_the_learned_part_are_refused_before_weights(
    tmp_path: Path,
) -> None:
    done, folders = compile_apart(tmp_path, "seats")
    record = json.loads((folders[1] / "d2l.json").read_text("utf-8"))
    change_record(folders[1], options=record["options"] | {"bias_scale": 0.5})
    with pytest.raises(MergeError, match="the learned part has different strengths"):
        prepare(folders, checkpoint=str(done.checkpoint), offline=True)


def test_methods_are_those_that_there_are() -> None:
    assert list(merge_plan.METHODS) == list(METHODS)


def test_nothing_heavy_is_imported_for_it(tmp_path: Path) -> None:
    done, folders = compile_apart(tmp_path, "seats")
    code = (
        "from pathlib import Path\nfrom d2l.change.merge_plan import prepare\n"
        f"plan = prepare([Path(p) for p in {[str(f) for f in folders * 4]!r}], "
        f"checkpoint={str(done.checkpoint)!r}, offline=True)\n"
        "assert plan.warnings"
    )
    assert not list_imported(code, "torch", "transformers")
