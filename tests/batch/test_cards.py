"""Batches on machines with several cards, which are pretended: who gets which."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from d2l.batch.ray_engine import run_on_ray
from d2l.batch.rows import BatchRow
from d2l.batch.work import Job, Worker
from d2l.hypernets.options import CompileOptions
from tests import tiny
from tests.compiled import write_files


@pytest.mark.parametrize(
    ("n_cards", "device", "taken"),
    [
        (2, "cuda", ["cuda:0", "cuda:1", "cuda:0"]),
        (2, "auto", ["cuda:0", "cuda:1", "cuda:0"]),
        (2, "cuda:1", ["cuda:1"] * 3),
        (1, "auto", ["auto"] * 3),
        (2, "cpu", ["cpu"] * 3),
    ],
)
def test_workers_share_the_cards_out(
    n_cards: int,
    device: str,
    taken: list[str],
    working_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each compiles a document on the card that it takes; the CPU computes for all of them."""
    base, checkpoint = write_files(working_folder, "llama")
    options = CompileOptions(str(checkpoint), str(base), device=device, offline=True)
    asked: list[str] = []

    def pick(device: str) -> str:
        asked.append(device)
        return "cpu"

    for module in ("bases.devices", "hypernets.network", "api.compiler"):
        monkeypatch.setattr(f"d2l.{module}.pick_device", pick)
    monkeypatch.setattr("torch.cuda.device_count", lambda: n_cards)
    (working_folder / "note.txt").write_text(tiny.DOCUMENT)
    for n in range(3):
        asked.clear()
        row = BatchRow(f"{n}", f"{n}.lora", ("note.txt",))
        result = Worker(Job("many", options), n).do(row)
        assert (result.status, asked[0]) == ("done", taken[n]), result


@pytest.mark.parametrize(
    ("device", "cluster", "asked"),
    [("auto", 2.0, 1), ("cuda", 2.0, 1), ("cpu", 2.0, 0), ("auto", 0.0, 0)],
)
def test_actors_of_a_cluster_with_cards_get_one_each(
    device: str, cluster: float, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray is pretended; it does the rows in this process."""
    given: dict[str, Any] = {}

    class Data:
        def __init__(self, items: list[dict[str, str]]) -> None:
            self.items = items

        def map_batches(self, actor: Any, **options: Any) -> "Data":
            given.update(options)
            do = actor(*options["fn_constructor_args"])
            done = [do({"row": [item["row"]]})["result"][0] for item in self.items]
            return Data([{"result": line} for line in done])

        def iter_rows(self) -> list[dict[str, str]]:
            return self.items

    ray = SimpleNamespace(
        is_initialized=lambda: True,
        cluster_resources=lambda: {"GPU": cluster} if cluster else {},
        _private=SimpleNamespace(worker=SimpleNamespace()),
        data=SimpleNamespace(
            DataContext=SimpleNamespace(get_current=SimpleNamespace),
            ActorPoolStrategy=SimpleNamespace,
            from_items=lambda items, **_: Data(items),
        ),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", ray.data)
    monkeypatch.setitem(sys.modules, "ray._private", ray._private)
    monkeypatch.setitem(sys.modules, "ray._private.worker", ray._private.worker)
    monkeypatch.setattr("d2l.batch.work.Worker._pick_device", lambda _: pytest.fail("one is done"))
    rows = [BatchRow(f"{n}", error="cannot be used") for n in range(2)]
    results = list(run_on_ray(Job("many", CompileOptions(device=device)), rows, 2))
    assert [result.status for result in results] == ["failed"] * 2
    assert given["num_gpus"] == asked
