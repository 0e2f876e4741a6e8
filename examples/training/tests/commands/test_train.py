"""The commands `d2l-lab train` and `t2l make`: plans without weights, what is refused, progress."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from d2l import interrupts
from d2l.commands import console
from d2l_lab.commands.train import TrainingView
from d2l_lab.training.recipe_files import read_recipe
from examples.training.tests.toy import Lab, write_place, write_recipe
from tests import tiny
from tests.command import Command


@pytest.fixture
def place(working_folder: Path) -> Path:
    """A working folder with a base, a network and data to train it with."""
    return write_place(working_folder, repeats=3)


@pytest.mark.usefixtures("place")
def test_what_stands_behind_two_dashes_is_no_option(lab: Lab) -> None:
    done = lab("train", "--", "--check")
    assert done.err.startswith("error: --check: No such file or directory\n")


def test_training_takes_base_and_device_and_plans(place: Path, lab: Lab) -> None:
    recipe = write_recipe(place / "a.toml")
    Path("tiny-org").rename("elsewhere")
    (place / "elsewhere/llama-tiny/model.safetensors").unlink()
    assert lab("train", recipe, "--dry-run", "--offline").code == 1
    done = lab("train", recipe, "--dry-run", "--base", "elsewhere/llama-tiny", "--offline")
    assert (done.code, done.err) == (0, "")
    keyed = write_recipe(place / "b.toml", base="elsewhere/llama-tiny", offline=True)
    assert lab("train", keyed, "--dry-run").out == done.out
    done = lab("train", recipe, "--device", "gpu")
    assert (done.code, "gpu" in done.err) == (1, True)
    done = lab("train", recipe, "--device", "a\tb")
    assert done.code == 1
    assert done.err.startswith(f"error: {recipe}: device is 'a\\tb' and must be a line of text\n")


def test_another_base_is_refused_or_warned_of(place: Path, lab: Lab) -> None:
    recipe = write_recipe(place / "a.toml")
    tiny.write_base(place / "stranger", "llama")
    done = lab("train", recipe, "--dry-run", "--base", "stranger")
    assert done.code == 0
    assert done.err.startswith("warning: the checkpoint was trained for tiny-org/llama-tiny, and")
    config = json.loads(Path("stranger/config.json").read_text())
    Path("stranger/config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    done = lab("train", recipe, "--dry-run", "--base", "stranger")
    assert (done.code, "has 1 layers" in done.err) == (1, True)


def test_making_is_planned_without_weights(working_folder: Path, command: Command) -> None:
    tiny.write_base(working_folder / "tiny-org" / "mistral-tiny", "mistral")
    tiny.write_text_to_lora(working_folder / "net", "mistral", None)
    (working_folder / "tiny-org/mistral-tiny/model.safetensors").unlink()
    words = ("make", "Say it again.", "-o", "a.lora", "--checkpoint", "net", "--dry-run")
    done = command.t2l(*words)
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()] == [
        *("checkpoint", "base", "embedder", "rank", "scaling")
    ]
    assert json.loads(command.t2l(*words, "--json").out)["rank"] > 0
    assert not Path("a.lora").exists()


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        ({"steps": 100}, "step 40, loss 0.205, steps: 40 of 100"),
        ({"steps": 0, "hours": 1.0}, "step 40, loss 0.205, seconds: 80 of 3,600"),
        ({"steps": 100, "hours": 0.03}, "step 40, loss 0.205, seconds: 80 of 108"),
    ],
)
def test_a_run_shows_the_limit_that_ends_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    limits: dict[str, float],
    shown: str,
) -> None:
    """Steps of two seconds, of a loss that is a hundredth of the step."""
    monkeypatch.setattr(console, "LOG_SECONDS", 0.0)
    recipe = read_recipe(write_recipe(tmp_path / "a.toml", **limits))
    view = TrainingView(recipe, console.ProgressBar("training"))
    for step in range(1, 41):
        view({"step": step, "loss": step / 100, "seconds": 2.0 * step})
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"{shown}, about ")


@pytest.fixture
def command_interrupts() -> Iterator[None]:
    """Signals are handled as in a command, whatever the shell or a test before this one has set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with interrupts.listening():
        yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def view(tmp_path: Path) -> TrainingView:
    """The view of a run that did no step yet."""
    return TrainingView(
        read_recipe(write_recipe(tmp_path / "a.toml")), console.ProgressBar("training")
    )


@pytest.mark.usefixtures("command_interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_before_the_first_step_ends_at_once(
    view: TrainingView, number: signal.Signals
) -> None:
    with view.listening(), pytest.raises((KeyboardInterrupt, SystemExit)):
        signal.raise_signal(number)
    assert view.stopped_by is None


@pytest.mark.usefixtures("command_interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_during_steps_is_kept_and_a_second_ends_at_once(
    view: TrainingView, number: signal.Signals
) -> None:
    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    with view.listening():
        assert not view.stopping()
        signal.raise_signal(number)
        assert view.stopping()
        assert view.stopped_by == number
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == handlers
