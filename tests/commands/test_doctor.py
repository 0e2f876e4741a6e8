"""`d2l doctor`: what is here, what is missing, and what it never prints."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from d2l import __version__
from d2l.bases.catalog import KNOWN
from d2l.commands import doctor
from d2l.commands.main import WAITING
from d2l.hypernets.registry import ALIASES, DEFAULT
from tests import tiny
from tests.command import Command
from tests.compiled import write_files
from tests.processes import run_python

SECRET = "not to be printed"


@pytest.fixture(autouse=True)
def place(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network that is the default, and no known base."""
    tiny.write_seats(working_folder / "seats")
    monkeypatch.setenv("D2L_CHECKPOINT", "seats")
    monkeypatch.setattr("d2l.bases.catalog.locate", lambda _: None)
    return working_folder


def test_a_machine_that_can_compile_is_described(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(place, "llama")
    done = command("doctor", "--json")
    values = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert values["versions"]["d2l"] == __version__
    assert all(values["versions"].values())
    assert values["machine"]["memory_bytes"] > values["machine"]["available_bytes"] > 0
    assert values["machine"]["threads"] > 0
    network = {"name": "seats", "path": str(Path("seats")), "fault": None}
    assert values["network"] == network
    assert values["cache"]["cache"] == str(place / "cache")
    assert values["cache"]["free_bytes"] > 0
    assert [path.name for path in (place / "cache").iterdir()] == ["precision.json"]
    machine = values["machine"]
    assert machine["base_dtype"] == "fp32"  # by the variable
    assert all(speed > 0 for speed in machine["bf16_speed"].values())
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: False)
    shown = command("doctor")
    assert shown.code == 0
    assert "\ncuda      this torch has no CUDA\n" in shown.out
    for base in KNOWN:
        assert f"\nbase      {base.alias}, missing: d2l bases fetch {base.alias}\n" in shown.out
    assert "\nvariable  D2L_CHECKPOINT=seats\n" in shown.out
    assert "\ncpu       bases in fp32; bf16 is " in shown.out


def test_what_keeps_compile_from_working_is_exit_code_1(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("D2L_CHECKPOINT")
    base = next(known for known in KNOWN if known.name == ALIASES[DEFAULT].base)
    done = command("doctor")
    assert done.code == 1
    assert (
        f"\ncompile   cannot work: the base {base.name} is not on this machine "
        f"(get it: d2l bases fetch {base.alias})\n"
    ) in done.out
    monkeypatch.setenv("D2L_CHECKPOINT", str(place / "none"))
    done = command("doctor", "--json")
    assert done.code == 1
    assert "named in D2L_CHECKPOINT not found" in json.loads(done.out)["network"]["fault"]


def test_cards_are_told_with_their_memory_and_precision(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [("One", 80 * 10**9, 9, 0), ("Two", 16 * 10**9, 7, 5)]
    keys = ("name", "total_memory", "major", "minor")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(cards))
    monkeypatch.setattr(
        "torch.cuda.get_device_properties",
        lambda n: SimpleNamespace(**dict(zip(keys, cards[n], strict=True))),
    )
    shown = command("doctor").out
    assert "\ncuda:0    One, 80.0 GB, capability 9.0, bf16\n" in shown
    assert "\ncuda:1    Two, 16.0 GB, capability 7.5, bf16 emulated, which is slow\n" in shown
    assert "\ncuda  " not in shown


def test_all_variables_of_d2l_are_looked_at() -> None:
    sources = [path.read_text("utf-8") for path in Path(doctor.__file__).parents[1].rglob("*.py")]
    names = {name for text in sources for name in re.findall('"(D2L_[A-Z_]+)"', text)}
    shown = {*doctor._VARIABLES, *doctor._SECRETS}
    assert names == {name for name in shown if name.startswith("D2L_")}


def test_extras_are_those_of_the_package(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "torch>=2",
        "none-such[x]>=1; extra == 'far'",
        'torch; sys_platform == "linux" and extra == "far"',
        "torch>=2; extra == 'near'",
        "none-such; extra == 'dev'",
        "d2l[far]; extra == 'both'",
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda _: lines)
    assert json.loads(command("doctor", "--json").out)["extras"] == [
        {"name": "far", "missing": ["none-such"], "get": "pip install 'd2l[far]'"},
        {"name": "near", "missing": [], "get": None},
    ]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_tokens_are_not_printed(
    form: tuple[str, ...], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "D2L_SERVE_TOKEN",
        "D2L_SERVER",
        "HF_TOKEN",
        "HTTPS_PROXY",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.setenv(name, SECRET)
    done = command("doctor", *form)
    assert SECRET not in done.out + done.err
    assert "D2L_SERVE_TOKEN" in done.out


@pytest.mark.parametrize("chosen", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_idle_threads_of_a_command_sleep_unless_the_user_chose(
    place: Path, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str]
) -> None:
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    write_files(place, "llama")
    done = run_python("-m", "d2l", "doctor", "--json", OMP_DISPLAY_ENV="verbose", **chosen)
    shown = json.loads(done.stdout)["variables"]
    wanted = chosen or {"OMP_WAIT_POLICY": "PASSIVE"}
    assert {name: shown[name] for name in WAITING if name in shown} == wanted
    if "GOMP_SPINCOUNT" in done.stderr:  # GNU's library tells what it has read
        count = chosen.get("GOMP_SPINCOUNT", "0") if "OMP_WAIT_POLICY" not in chosen else "[1-9]"
        assert re.search(rf"GOMP_SPINCOUNT = '{count}", done.stderr)


def test_a_library_leaves_the_threads_of_its_program_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    code = f"import os, d2l; d2l.compile; print([n for n in {WAITING} if n in os.environ])"
    assert run_python("-c", code).stdout == "[]\n"
