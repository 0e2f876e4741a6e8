"""Recipes: hostile and clumsy files are one line with the file and the key."""

from pathlib import Path

import pytest

from d2l.errors import RecipeError
from d2l.recipes import Recipe, read_recipe
from tests.recipes import write_recipe


def refuse(path: Path) -> tuple[str, str | None]:
    with pytest.raises(RecipeError) as refused:
        read_recipe(path)
    assert "\n" not in refused.value.message
    return refused.value.message, refused.value.hint


def test_a_recipe_holds_what_its_file_says(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "a.toml", steps=7, learning_rate=1)
    recipe = read_recipe(path)
    assert (recipe.steps, recipe.learning_rate, recipe.hours) == (7, 1.0, 0.0)
    assert isinstance(recipe.learning_rate, float)
    assert [source.path for source in recipe.sources] == ["toy.jsonl"]
    assert [(length.tokens, length.memories) for length in recipe.lengths] == [(24, 2)]


def test_the_recipe_that_is_shipped_reads() -> None:
    for path in (Path(__file__).parents[1] / "examples" / "recipes").glob("*.toml"):
        assert isinstance(read_recipe(path), Recipe)


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("steps = 3", "stepps = 3", "unknown key 'stepps'", "did you mean 'steps'?"),
        ("weight = 1.0", "wait = 1.0", "sources: unknown key 'wait'", None),
        ("chunks = 1", "", "lengths: missing key 'chunks'", None),
        ("steps = 3", "", "the recipe never ends", "set steps, hours, or both"),
        ("steps = 3", 'steps = "3"', "steps is '3', expected int", None),
        ("steps = 3", "steps = true", "steps is True, expected int", None),
        ("steps = 3", "steps = 3.5", "steps is 3.5, expected int", None),
        (
            'precision = "float32"',
            'precision = "int8"',
            "precision is 'int8'",
            "choose one of bfloat16, float32",
        ),
        ("clip = 0.5", "clip = 0", "clip is 0.0, expected a number above 0", None),
        ("clip = 0.5", "clip = nan", "clip is nan, expected a number above 0", None),
        ("general_share = 0.0", "general_share = 2", "general_share is 2.0, expected 0 to 1", None),
        ("memories = 2", "memories = 0", "memories of a length is 0, expected above 0", None),
        ("[[sources]]", "[sources]", "sources is not a list of tables", "write [[sources]]"),
        ("[[lengths]]", "[[lenths]]", "unknown key 'lenths'", "did you mean 'lengths'?"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, old: str, new: str, message: str, hint: str | None
) -> None:
    path = write_recipe(tmp_path / "a.toml")
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    got, got_hint = refuse(path)
    assert got == f"{path}: {message}"
    assert hint is None or got_hint == hint


def test_files_that_are_no_toml_are_refused(tmp_path: Path) -> None:
    assert refuse(tmp_path / "no.toml")[0] == f"{tmp_path / 'no.toml'}: No such file or directory"
    (tmp_path / "bad.toml").write_text("a = = 1")
    assert refuse(tmp_path / "bad.toml")[0].startswith(f"{tmp_path / 'bad.toml'}: not TOML: ")
    (tmp_path / "raw.toml").write_bytes(b"\xff\xfe\x00")
    assert refuse(tmp_path / "raw.toml")[0].startswith(f"{tmp_path / 'raw.toml'}: not TOML: ")
