"""Recipe → hypernetwork checkpoint: trains the seat network further, and goes on where it was.

Knows the loop. What is drawn comes from `training_data`, the loss from
`hypernets.seats_training`. The folder of a run is itself a checkpoint, beside its log and state.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from d2l.bases.activations import ActivationEncoder
from d2l.bases.models import BaseFiles, find_base, load_causal
from d2l.bases.tokens import BaseTokenizer, load_tokenizer
from d2l.errors import CheckpointError, RecipeError
from d2l.folders import replace_file
from d2l.general_answers import load_general, read_prompts
from d2l.hypernets.checkpoints import read_config
from d2l.hypernets.registry import find_checkpoint
from d2l.hypernets.seats import SeatNetwork, Seats, load_seats
from d2l.hypernets.seats_config import SeatsConfig
from d2l.hypernets.seats_training import BatchLoss, Exercise, ReadChunk, SeatedDecoder, batch_loss
from d2l.recipes import Recipe
from d2l.training_data import Mixture, Pools, build_pools

Row = dict[str, Any]
Watch = Callable[[Row], None]  # what the log keeps of a step

_LOG, _STATE, _GENERAL = "log.jsonl", "state.pt", "general.safetensors"


def silent(row: Row) -> None:
    """Watch nothing of a step's `row`."""


@dataclass(frozen=True)
class Materials:
    """What a recipe names, without any weights."""

    source: Path
    config: SeatsConfig
    base: BaseFiles
    tokenizer: BaseTokenizer
    pools: Pools


@dataclass(frozen=True)
class Workshop:
    """What every step needs and none changes."""

    recipe: Recipe
    source: Path  # the checkpoint that training starts from
    seats: Seats
    decoder: SeatedDecoder
    read: ActivationEncoder
    mixture: Mixture


@dataclass
class Run:
    """A run between two steps: what the state file holds. Draws depend on the step alone."""

    network: SeatNetwork
    optimizer: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0


def train(recipe: Recipe, out: Path, *, watch: Watch = silent) -> Path:
    """Train until the recipe's end; raises D2LError. An interrupted run goes on from its state."""
    shop = prepare(recipe, out)
    run = start_run(shop)
    state = out / _STATE
    if state.is_file():
        load_state(run, state)
    trim_log(out / _LOG, run.step)
    saved = time.monotonic()
    with (out / _LOG).open("a", encoding="utf-8") as log:
        while progress(recipe, step=run.step, seconds=run.seconds) < 1:
            row = train_step(run, shop)
            log.write(json.dumps(row) + "\n")
            log.flush()
            watch(row)
            if time.monotonic() - saved > recipe.save_minutes * 60:
                save(run, shop, out)
                saved = time.monotonic()
    save(run, shop, out)
    return out


def check(recipe: Recipe) -> list[Row]:
    """Read all of a recipe's data, no weights: what each source gives for each length."""
    materials = gather(recipe)
    return [
        {
            "source": source.path,
            "tokens": tokens,
            "passages": len(passages),
            "questions": sum(len(passage.questions) for passage in passages),
        }
        for tokens, pool in materials.pools.items()
        for source, (_, passages) in zip(recipe.sources, pool, strict=True)
    ]


def gather(recipe: Recipe) -> Materials:
    """Find the checkpoint and its base, and read the data; raises D2LError."""
    source = find_checkpoint(recipe.checkpoint).path
    config = read_config(source)
    if not isinstance(config, SeatsConfig):
        raise RecipeError(
            f"{recipe.checkpoint}: is a {config.kind} network", hint="only seat networks train yet"
        )
    for length in recipe.lengths:
        if not config.min_chunk_tokens <= length.tokens <= config.chunk_tokens:
            raise RecipeError(
                f"tokens of a length is {length.tokens}, but this network reads chunks of "
                f"{config.min_chunk_tokens} to {config.chunk_tokens}"
            )
    base = find_base(config.base)
    tokenizer = load_tokenizer(base.folder)
    pools = build_pools(
        recipe.sources,
        sorted({length.tokens for length in recipe.lengths}),
        folder=Path(recipe.data),
        tokenizer=tokenizer,
        minimum=config.min_chunk_tokens,
    )
    return Materials(source, config, base, tokenizer, pools)


def prepare(recipe: Recipe, out: Path) -> Workshop:
    """Load the base, the network, the data and the general answers."""
    found = gather(recipe)
    source, config, files, tokenizer = found.source, found.config, found.base, found.tokenizer
    causal = load_causal(files, device="cpu", dtype=getattr(torch, recipe.precision))
    seats = load_seats(source, causal.model)
    out.mkdir(parents=True, exist_ok=True)
    general: list[Exercise] = []
    if recipe.general_share > 0:
        general = load_general(
            out / _GENERAL, causal, read_prompts(), tokenizer=tokenizer, config=config
        )
    return Workshop(
        recipe,
        source,
        seats,
        SeatedDecoder(causal, seats.statistics, config),
        ActivationEncoder(causal.model, config.reading),
        Mixture(found.pools, recipe, tuple(general), tokenizer, config),
    )


def start_run(shop: Workshop) -> Run:
    """A run at step 0 that trains the network of the checkpoint."""
    network = shop.seats.network.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(
        network.parameters(), betas=(shop.recipe.beta1, shop.recipe.beta2), weight_decay=0.0
    )
    return Run(network, optimizer)


def train_step(run: Run, shop: Workshop) -> Row:
    """One step: draw, read, loss, update. Returns what the log keeps of it."""
    recipe = shop.recipe
    started = time.monotonic()
    drawn = shop.mixture.draw(run.step)
    opening = shop.seats.config.read_opening
    memories = [
        [
            ReadChunk(shop.read([*opening, *passage.token_ids]), n_seats)
            for passage, n_seats in zip(memory.passages, memory.seats, strict=True)
        ]
        for memory in drawn
    ]
    exercises = [memory.exercises for memory in drawn]
    loss = batch_loss(
        run.network, shop.decoder, memories, exercises, general_weight=recipe.general_weight
    )
    run.optimizer.zero_grad(set_to_none=True)
    loss.total.backward()  # type: ignore[no-untyped-call]
    norm = float(torch.nn.utils.clip_grad_norm_(run.network.parameters(), recipe.clip))
    rate = learning_rate(recipe, step=run.step, seconds=run.seconds)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    if math.isfinite(norm):  # a broken batch is skipped, and seen in the log
        run.optimizer.step()
    run.step += 1
    run.seconds += time.monotonic() - started
    return {
        "step": run.step,
        "memories": len(drawn),
        "chunks": len(drawn[0].passages),
        "seats": sum(drawn[0].seats),
        **summarize(loss, [exercise for group in exercises for exercise in group]),
        "gradient": round(norm, 4),
        "rate": rate,
        "seconds": round(run.seconds, 1),
    }


def summarize(loss: BatchLoss, exercises: Sequence[Exercise]) -> Row:
    """Means over the questions and, apart, over the general prompts."""
    result = {"loss": round(float(loss.total.detach()), 6)}
    general = torch.tensor([exercise.reference is not None for exercise in exercises])
    for name, chosen in (("answers", ~general), ("general", general)):
        if bool(chosen.any()):
            result[name] = round(float(loss.losses[chosen].mean()), 6)
            result[f"{name}_right"] = round(float(loss.right[chosen].mean()), 4)
    return result


def learning_rate(recipe: Recipe, *, step: int, seconds: float) -> float:
    """Linear warm-up, then a cosine over whichever of steps and hours is further advanced."""
    warm = min((step + 1) / max(recipe.warmup_steps, 1), 1.0)
    done = min(progress(recipe, step=step, seconds=seconds), 1.0)
    share = recipe.final_share + (1 - recipe.final_share) * (1 + math.cos(math.pi * done)) / 2
    return recipe.learning_rate * warm * share


def progress(recipe: Recipe, *, step: int, seconds: float) -> float:
    """Part of the run that is done; 1 or more at its end."""
    by_steps = step / recipe.steps if recipe.steps > 0 else 0.0
    by_hours = seconds / (recipe.hours * 3600) if recipe.hours > 0 else 0.0
    return max(by_steps, by_hours)


def save(run: Run, shop: Workshop, out: Path) -> None:
    """Write the state, and the checkpoint that the network is by now; each file whole or not."""
    state = {
        "network": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "seconds": run.seconds,
    }
    replace_file(out / _STATE, lambda target: torch.save(state, target))
    for name in ("config.json", "statistics.safetensors"):
        replace_file(out / name, partial(shutil.copyfile, shop.source / name))
    tensors = {name: tensor.detach().clone() for name, tensor in run.network.state_dict().items()}
    replace_file(out / "model.safetensors", lambda target: save_file(tensors, target))


def load_state(run: Run, path: Path) -> None:
    """Put a saved state into `run`; raises CheckpointError."""
    try:
        state = torch.load(path, weights_only=True)
        run.network.load_state_dict(state["network"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.step, run.seconds = state["step"], state["seconds"]
    except (OSError, RuntimeError, KeyError, ValueError, EOFError) as error:
        raise CheckpointError(
            f"{path}: not the state of a run like this",
            hint="delete it to start anew, or name another --out",
        ) from error


def trim_log(path: Path, step: int) -> None:
    """Drop rows past the saved state, whose steps are taken again, and a row cut short."""
    if not path.is_file():
        return
    lines = path.read_text("utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    try:
        kept = [line for line in whole if json.loads(line)["step"] <= step]
    except (ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"{path}: not the log of a run", hint="name another --out") from error
    replace_file(path, lambda target: target.write_text("".join(kept), "utf-8"))
