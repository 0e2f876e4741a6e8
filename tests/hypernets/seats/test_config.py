import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from d2l.errors import CheckpointError, MergeError, OptionError
from d2l.hypernets.seats.config import SeatsConfig, read_config
from d2l.hypernets.seats.sharing import centers, count_seats, set_density, split_seats
from tests.tiny_seats import make_config
from tests.tools.seat_goldens import CONFIG as CONFIG_FILE

CONFIG = read_config(CONFIG_FILE)
ADDRESSED: dict[str, object] = {"version": 1, "intermediate": 64, "address_neurons": list(range(8))}


def make_raw() -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(make_config())))


# Configuration


def allot(sizes: list[int], **limit: int) -> list[int]:
    """Seats of the chunks of one document."""
    return split_seats(sizes, count_seats(sum(sizes), config=CONFIG, **limit))


def test_an_adapter_has_no_more_ranks_than_its_modules_need() -> None:
    outputs = CONFIG.kv_heads * CONFIG.head_dim
    assert outputs == 192
    many = dataclasses.replace(CONFIG, max_seats=300, opening_words=tuple(range(282)))
    assert [many.find_rank(n) for n in (18, 192, 193, 300)] == [18, 192, 192, 192]
    small = make_config(**ADDRESSED)  # of 16 outputs, 3 head tokens and 8 words
    width = small.kv_heads * small.head_dim
    assert small.find_rank(width + 5) == max(width, width + 5 - small.min_seats)
    shared = dataclasses.replace(many, version=1, shared_rank=18, intermediate=1536)
    assert [shared.find_rank(n) for n in (18, 300)] == [18, 192]


def test_with_a_gate_rank_each_kind_of_module_has_its_own() -> None:
    small = make_config(**ADDRESSED, gate_rank=5)  # of 16 outputs, 3 head tokens and 8 words
    n_head, most = small.min_seats, small.max_seats
    own = small.find_ranks(most)
    assert own == {"down_proj": most - n_head, "gate_proj": 5, "k_proj": most, "v_proj": most}
    assert small.find_rank(most) == max(own.values())
    ranks = (2, 2, n_head + 2, n_head + 2)
    assert small.find_ranks(n_head + 2) == dict(zip(own, ranks, strict=True))
    bare = small.find_ranks(n_head)  # no word, no address
    assert (bare["down_proj"], bare["gate_proj"]) == (1, 1)
    sides = {name: sum(shape) for name, shape in small.module_shapes.items()}
    layers = {"down_proj": 1, "gate_proj": 1, "k_proj": 2, "v_proj": 2}
    expected = sum(own[name] * sides[name] * n for name, n in layers.items())
    assert small.count_values(most) == expected
    whole = make_config(**ADDRESSED)
    assert whole.count_values(most) == whole.find_rank(most) * whole.values_a_rank
    with pytest.raises(CheckpointError, match="gates of some rank have addresses"):
        make_config(gate_rank=5)


def test_openings_are_those_of_the_goldens(cases: dict[str, Any]) -> None:
    for case in cases.values():
        assert list(CONFIG.opening(case["seats"])) == case["opening"]


@pytest.mark.parametrize("n_seats", [0, 17, 121])
def test_openings_of_other_lengths_are_refused(n_seats: int) -> None:
    with pytest.raises(MergeError, match=f"^{n_seats} seats, but openings have 18 to 120"):
        CONFIG.opening(n_seats)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surprise": 1}, 'unknown field "surprise" of seats'),
        ({"version": 2}, "version is 0 or 1"),
        ({"version": 1, "shared_rank": 2}, "a shared LoRA has intermediate above 0"),
        ({"version": 1, "shared_rank": 5, "intermediate": 64}, "shared_rank is at most min_seats"),
        ({"shared_rank": -1}, "shared_rank is -1, expected 0 or more"),
        ({"width": None}, "field width is not of type int"),
        ({"width": True}, "field width is not of type int"),
        ({"width": 0}, "a network has sizes, and features"),
        ({"width": -1}, "width is -1, expected 0 or more"),
        ({"layers": 0}, "layers is 0, expected 1 or more"),
        ({"width": 15}, "width is a multiple of encoder_heads"),
        ({"features": [0, "6"]}, "field features is not of type tuple"),
        ({"features": []}, "a network has sizes, and features"),
        ({"features": [0, 3]}, "features are layers"),
        ({"network": "perceiver"}, 'network is "seats"'),
        ({"network": "kv"}, 'network is "seats"'),
        ({"turns": ["a"] * 7}, 'unknown field "turns" of seats'),
        ({"first_layer": 3}, "first_layer is a layer"),
        ({"statistics_ridge": float("nan")}, "statistics_ridge is nan"),
        ({"opening_head": [1, 2]}, r"min_seats \+ 1 tokens"),
        ({"opening_words": [1, 2]}, "max_seats - min_seats tokens"),
        ({"opening_words": [-1] * 8}, "opening_words is empty or holds a negative number"),
        ({"learned_places": 1}, "field learned_places is not of type bool"),
        ({"version": 1, "value_ridge": -1.0}, "value_ridge is -1.0, expected a number of at least"),
        ({"version": 1, "value_ridge": float("inf")}, "value_ridge is inf"),
        ({"solve_epsilon": 0.0}, "solve_epsilon is 0.0, expected a number above 0"),
        ({"address_neurons": [-1]}, "address_neurons is empty or holds a negative number"),
        (ADDRESSED | {"shared_rank": 2}, "addresses stand in for a shared LoRA"),
        (ADDRESSED | {"first_layer": 0}, "addresses have a layer below the memory"),
        (ADDRESSED | {"address_neurons": list(range(7))}, "each opening word has a neuron"),
        (ADDRESSED | {"address_neurons": [0, 0, *range(2, 8)]}, "each opening word has a neuron"),
        (ADDRESSED | {"intermediate": 7}, "each opening word has a neuron of its own among"),
        ({"adapted_layers": [2]}, "adapted_layers rise from first_layer"),
        ({"adapted_layers": [1, 3]}, "adapted_layers rise from first_layer"),
        ({"adapted_layers": [1, 2, 2]}, "adapted_layers rise from first_layer"),
        ({"adapted_layers": [1, -2]}, "adapted_layers is empty or holds a negative number"),
        (
            {"version": 1, "shared_rank": 2, "intermediate": 64, "adapted_layers": [1]},
            "a shared LoRA lies in all layers",
        ),
    ],
)
def test_bad_configurations_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        SeatsConfig.from_json({**make_raw(), **changes})


def test_unreadable_and_incomplete_configurations_are_refused(tmp_path: Path) -> None:
    raw = make_raw()
    del raw["hidden"]
    with pytest.raises(CheckpointError, match='missing field "hidden" of seats'):
        SeatsConfig.from_json(raw)
    for text, message in (("[]", "expected a JSON object, got list"), ("{", "is not valid JSON")):
        (tmp_path / "config.json").write_text(text, "utf-8")
        with pytest.raises(CheckpointError, match=rf"config\.json: {message}"):
            read_config(tmp_path / "config.json")


# Shares of the seats


def test_shares_and_centers_are_those_of_the_goldens(cases: dict[str, Any]) -> None:
    for name in ("note", "short", "page", "long"):
        case = cases[name]
        n_tokens = [len(chunk["token_ids"]) for chunk in case["chunks"]]
        shares = allot(n_tokens)
        assert sum(shares) == case["seats"]
        for share, tokens, expected in zip(shares, n_tokens, case["seat_centres"], strict=True):
            # as a second implementation agreed with the prototype
            assert centers(share, tokens) == pytest.approx(expected, abs=1e-9)


def test_seats_follow_tokens_between_the_least_and_the_most() -> None:
    counts = [count_seats(n, config=CONFIG) for n in (1, 144, 145, 960, 961, 10**6)]
    assert counts == [18, 18, 19, 120, 120, 120]


def test_long_documents_share_all_seats_and_small_chunks_may_get_none() -> None:
    shares = allot([240] * 300 + [16])
    assert sum(shares) == 120
    assert set(shares) == {0, 1}
    assert shares[-1] == 0


def test_halves_are_rounded_to_the_even_seat() -> None:
    # N = 18 of T = 36 tokens: ends at 0.5, 1.5, 2.5 and 18 seats
    assert allot([1, 2, 2, 31]) == [0, 2, 0, 16]


def test_most_seats_may_be_lowered_not_raised() -> None:
    assert sum(allot([240] * 10, max_seats=50)) == 50
    assert sum(allot([240] * 10, max_seats=500)) == 120
    with pytest.raises(OptionError, match="at most 17 seats were asked for"):
        allot([240], max_seats=17)


def test_short_documents_get_a_seat_for_every_token_as_far_as_dense_seats_go() -> None:
    config = dataclasses.replace(CONFIG, version=1, tokens_per_seat=4, dense_seats=50)
    counts = [count_seats(n, config=config) for n in (5, 18, 19, 50, 51, 200, 201, 10**4)]
    assert counts == [18, 18, 19, 50, 50, 50, 51, 120]
    assert count_seats(50, config=config, max_seats=30) == 30
    sparse = set_density(config, 2)
    assert [count_seats(n, config=sparse) for n in (50, 200)] == [25, 100]
    with pytest.raises(CheckpointError, match="dense_seats is at most max_seats"):
        dataclasses.replace(CONFIG, dense_seats=121)


def test_a_density_need_not_be_a_whole_number() -> None:
    config = dataclasses.replace(CONFIG, version=1, tokens_per_seat=1.5, dense_seats=40)
    counts = [count_seats(n, config=config) for n in (18, 30, 50, 60, 61, 100, 180, 181)]
    assert counts == [18, 30, 40, 40, 41, 67, 120, 120]
    assert config.held_tokens == 180
    raw = make_raw()
    assert SeatsConfig.from_json({**raw, "tokens_per_seat": 1.5}).tokens_per_seat == 1.5
    for wrong in (0.5, 0, -2, float("nan"), float("inf")):
        with pytest.raises(CheckpointError, match="tokens_per_seat"):
            SeatsConfig.from_json({**raw, "tokens_per_seat": wrong})
        with pytest.raises(OptionError, match="expected a number of 1 or more"):
            set_density(CONFIG, wrong)


def test_configurations_that_do_not_say_so_are_of_networks_that_read_documents() -> None:
    raw = make_raw()
    del raw["reads"]
    assert SeatsConfig.from_json(raw).reads == "documents"
    assert SeatsConfig.from_json(raw | {"reads": "both"}).reads == "both"
    for wrong, message in (("tasks", "a rule: reads is one of documents, descriptions, both"),
                           (["both"], "field reads is not of type str")):  # fmt: skip
        with pytest.raises(CheckpointError, match=message):
            SeatsConfig.from_json(raw | {"reads": wrong})


def test_memory_lies_in_the_layers_that_are_named_or_in_all_from_the_first_on() -> None:
    raw = make_raw()
    every = SeatsConfig.from_json(raw)
    assert (every.memory_layers, every.n_adapted_layers) == ((1, 2), 2)
    some = SeatsConfig.from_json({**raw, "first_layer": 0, "adapted_layers": [0, 2]})
    assert (some.memory_layers, some.n_adapted_layers) == ((0, 2), 2)
    assert some.reading.key_value_layers == (0, 2)
