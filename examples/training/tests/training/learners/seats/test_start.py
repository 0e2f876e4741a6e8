"""What a seat network's training starts from."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d2l.errors import RecipeError
from d2l_lab.training.learners.recipes import Recipe
from d2l_lab.training.learners.seats.start import change_config, load_start
from examples.training.tests.toy import change
from tests import tiny

CONFIG = tiny.make_seats_config()
BASE_CONFIG = tiny.make_causal("llama").config


def test_a_fresh_network_is_drawn_from_the_seed_and_needs_no_weights_file(
    tmp_path: Path, recipe: Recipe
) -> None:
    folder = tiny.write_seats(tmp_path / "seats")
    trained = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    base = tiny.make_causal("llama").model
    state = torch.get_rng_state()
    first, again, other = (
        load_start(folder, CONFIG, base, replace(recipe, fresh=True, seed=seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)  # the caller's own draws go on as before
    weights = [dict(seats.network.state_dict()) for seats in (first, again, other)]
    assert weights[0].keys() == trained.keys()
    name = "input_projection.weight"
    assert torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[0][name], weights[2][name])
    assert not torch.equal(weights[0][name], trained[name])
    assert not weights[0]["key_correction.weight"].any()  # untrained, so nothing is corrected


def test_learned_places_begin_even_and_are_kept_by_later_recipes(
    tmp_path: Path, recipe: Recipe
) -> None:
    folder = tiny.write_seats(tmp_path / "seats")
    config = change_config(CONFIG, change(recipe, learned_places=True), BASE_CONFIG)
    assert (config.version, config.learned_places) == (1, True)
    assert change_config(config, recipe, BASE_CONFIG).learned_places
    assert not change_config(CONFIG, recipe, BASE_CONFIG).learned_places
    base = tiny.make_causal("llama").model
    first = load_start(folder, config, base, recipe).network.state_dict()
    assert first.keys() - load_file(folder / "model.safetensors").keys() == {"place.weight"}
    assert not first["place.weight"].any()


def test_the_recipe_sets_density_and_length_of_documents(recipe: Recipe) -> None:
    (length,) = recipe.lengths
    changed = change_config(CONFIG, recipe, BASE_CONFIG)
    assert changed == replace(CONFIG, version=1, document_tokens=length.tokens * length.chunks)
    longer = change(recipe, tokens_per_seat=2, lengths=(length, replace(length, chunks=3)))
    changed = change_config(CONFIG, longer, BASE_CONFIG)
    assert changed.tokens_per_seat == 2
    assert changed.held_tokens == 3 * length.tokens
    between = change_config(CONFIG, change(recipe, tokens_per_seat=1.5), BASE_CONFIG)
    assert between.tokens_per_seat == 1.5
    with pytest.raises(RecipeError, match=r"tokens_per_seat is 0\.5, but no token"):
        change_config(CONFIG, change(recipe, tokens_per_seat=0.5), BASE_CONFIG)
    dense = change_config(changed, change(recipe, dense_seats=4), BASE_CONFIG)
    assert (dense.tokens_per_seat, dense.dense_seats) == (2, 4)
    assert change_config(dense, recipe, BASE_CONFIG).dense_seats == 4
    with pytest.raises(RecipeError, match=f"at most {CONFIG.max_seats} seats"):
        change_config(CONFIG, change(recipe, dense_seats=99), BASE_CONFIG)
    # Going on with short documents only does not unlearn what long ones are.
    assert change_config(changed, recipe, BASE_CONFIG).held_tokens == 3 * length.tokens
