"""Recipes: hostile and clumsy files are one line with the file and the key."""

from functools import partial
from pathlib import Path

import pytest

from d2l.errors import RecipeError
from d2l_lab.training.learners.recipes import Recipe, refuse_other_kinds
from d2l_lab.training.recipe_files import locating, read_recipe
from examples.training.tests.toy import write_recipe
from tests.refusals import refuse

MANY = "write its values on lines of their own"

refusal = partial(refuse, RecipeError, read_recipe)


def test_a_recipe_holds_what_its_file_says(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "a.toml", steps=7, learning_rate=1)
    recipe = read_recipe(path)
    assert (recipe.steps, recipe.optimizer.learning_rate, recipe.hours) == (7, 1.0, 0.0)
    assert isinstance(recipe.optimizer.learning_rate, float)
    assert [source.path for source in recipe.sources] == ["toy.jsonl"]
    assert [(length.tokens, length.memories) for length in recipe.lengths] == [(24, 2)]


def test_the_recipes_that_are_shipped_are_read() -> None:
    paths = [
        p
        for p in sorted((Path(__file__).parents[3] / "recipes").glob("*.toml"))
        if p.stem != "suffix"
    ]
    assert paths
    for path in paths:
        assert isinstance(read_recipe(path), Recipe)


def test_a_table_of_another_kind_than_the_checkpoint_is_refused_with_its_line(
    tmp_path: Path,
) -> None:
    path = write_recipe(tmp_path / "a.toml", dense_seats=3)
    recipe = read_recipe(path)
    with pytest.raises(RecipeError) as refused, locating(path):
        refuse_other_kinds(recipe, "text_to_lora")
    assert refused.value.message == (
        f"{path}, line 13: [seats] is for seats networks, and seats is a text_to_lora network"
    )
    assert refused.value.hint == "leave [seats] out"


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "hint"),
    [
        ("steps = 3", "stepps = 3", 3, "unknown key 'stepps'", "did you mean 'steps'?"),
        ("steps = 3", "clip = 3", 3, "unknown key 'clip'", "it is a key of [optimizer]"),
        ("steps = 3", "clipp = 3", 3, "unknown key 'clipp'", "did you mean 'clip' in [optimizer]?"),
        (
            "clip = 0.5",
            "steps = 4",
            11,
            "optimizer: unknown key 'steps'",
            "it stands above the first table",
        ),
        (
            "clip = 0.5",
            "held_out = 4",
            11,
            "optimizer: unknown key 'held_out'",
            "it is a key of [seats] and [text_to_lora]",
        ),
        (
            "general_share = 0.0",
            "embedding_noise = 0.1",
            15,
            "seats: unknown key 'embedding_noise'",
            "it is a key of [text_to_lora]",
        ),
        ("[seats]", "[saets]", 13, "unknown key 'saets'", "did you mean 'seats'?"),
        ("[optimizer]", "[[optimizer]]", 8, "optimizer is [{", None),
        ("weight = 1.0", "wait = 1.0", 19, "sources: unknown key 'wait'", None),
        ("chunks = 1", "", 21, "lengths: missing key 'chunks'", None),
        ("steps = 3", "", None, "the recipe never ends", "set steps, hours, or both"),
        ("steps = 3", 'steps = "3"', 3, "steps is '3' and must be a valid integer", None),
        (
            "recitation_share = 0.0",
            "recitation_share = 0.2\ncloze_share = 0.9",
            13,
            "seats: recitation_share and cloze_share are more than 1 together",
            None,
        ),
        ("steps = 3", "steps = -3", 3, "steps is -3 and must be greater than or equal to 0", None),
        ("steps = 3", "hours = inf", 3, "hours is inf and must be a finite number", None),
        ("steps = 3", "steps = 0x" + 5000 * "f", 3, "steps is a number of too many digits", None),
        (
            'precision = "float32"',
            'precision = "int8"',
            6,
            "precision is 'int8' and must be 'bfloat16' or 'float32'",
            None,
        ),
        ("clip = 0.5", "clip = 0", 11, "optimizer: clip is 0 and must be greater than 0", None),
        (
            "general_share = 0.0",
            'excluded = ["a", 1]',
            15,
            "seats: excluded is 1 and must be a valid string",
            None,
        ),
        ("seed = 1", "fresh = 1", 4, "fresh is 1 and must be a valid boolean", None),
        (
            'data = "data"',
            'data = "a\\u0000b"',
            2,
            "data is 'a\\x00b' and must be a line of text",
            None,
        ),
        ('data = "data"', f'data = "{5000 * "x"}"', 2, "data is 'xxxx", None),
        ("weight = 1.0", "weight = 1.0\na.b = 1", 20, "sources: unknown key 'a'", None),
        ('data = "data"', 'data = ""', 2, "data is '' and must be a line of text", None),
        (
            "general_share = 0.0",
            "general_share = 2",
            15,
            "seats: general_share is 2 and must be less than or equal to 1",
            None,
        ),
        (
            "chunks = 1",
            "chunks = 99999",
            23,
            "lengths: chunks is 99999 and must be less than or equal to 1024",
            None,
        ),
        (
            "[[sources]]",
            "[sources]",
            17,
            "sources is {'path': 'toy.jsonl', 'weight': 1.0} and must be a list",
            "write [[sources]]",
        ),
        ("seed = 1", "steps = 4", None, "not TOML: Cannot overwrite a value (at line 4", None),
        ("seed = 1", "seed = 1" + 5000 * "0", None, "not TOML: Exceeds the limit", None),
        ("seed = 1", "seed = " + 5000 * "[", None, "not TOML: ", None),
        ("seed = 1", 9000 * "a." + "a = 1", None, "a line has more than 1,000 dots", MANY),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, old: str, new: str, line: int | None, message: str, hint: str | None
) -> None:
    path = write_recipe(tmp_path / "a.toml")
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    got, got_hint = refusal(path)
    assert got.startswith(
        f"{path}: {message}" if line is None else f"{path}, line {line}: {message}"
    )
    assert len(got) < len(str(path)) + 300
    assert hint is None or got_hint == hint


def test_a_key_is_found_in_its_own_table(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "a.toml")
    with path.open("a") as more:
        more.write('[[sources]]  # the second\n"weight" = 1.0\npath = 7\n')
    assert refusal(path)[0] == f"{path}, line 29: sources: path is 7 and must be a valid string"


def test_files_that_are_no_toml_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.toml")[0] == f"{tmp_path / 'no.toml'}: No such file or directory"
    assert refusal(tmp_path)[0] == f"{tmp_path}: Is a directory"
    (tmp_path / "bad.toml").write_text("a = = 1")
    assert refusal(tmp_path / "bad.toml")[0].startswith(f"{tmp_path / 'bad.toml'}: not TOML: ")
    (tmp_path / "raw.toml").write_bytes(b"a = 1\nb = '\xff'\x00")
    assert refusal(tmp_path / "raw.toml")[0] == f"{tmp_path / 'raw.toml'}, line 2: not UTF-8 text"
    (tmp_path / "empty.toml").write_bytes(b"")
    assert (
        refusal(tmp_path / "empty.toml")[0]
        == f"{tmp_path / 'empty.toml'}: missing key 'checkpoint'"
    )


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_a_recipe_without_an_end_is_not_read_to_it(tmp_path: Path) -> None:
    (tmp_path / "r.toml").symlink_to("/dev/zero")
    with pytest.raises(RecipeError, match="is larger than"):
        read_recipe(tmp_path / "r.toml")
