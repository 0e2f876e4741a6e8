"""Recipes: hostile and clumsy files are one line with the file and the key."""

from dataclasses import replace
from pathlib import Path

import pytest

from d2l.errors import RecipeError
from d2l.training.recipes import Recipe, read_recipe
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
    for path in (Path(__file__).parents[2] / "examples" / "recipes").glob("*.toml"):
        assert isinstance(read_recipe(path), Recipe)


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "hint"),
    [
        ("steps = 3", "stepps = 3", 3, "unknown key 'stepps'", "did you mean 'steps'?"),
        ("weight = 1.0", "wait = 1.0", 15, "sources: unknown key 'wait'", None),
        ("chunks = 1", "", 17, "lengths: missing key 'chunks'", None),
        ("steps = 3", "", None, "the recipe never ends", "set steps, hours, or both"),
        ("steps = 3", 'steps = "3"', 3, "steps is '3', expected int", None),
        ("steps = 3", "steps = true", 3, "steps is True, expected int", None),
        (
            "recitation_share = 0.0",
            "recitation_share = 0.2\ncloze_share = 0.9",
            None,
            "recitation_share and cloze_share are more than 1 together",
            None,
        ),
        ("steps = 3", "steps = 3.5", 3, "steps is 3.5, expected int", None),
        ("steps = 3", "steps = -3", 3, "steps is -3, expected 0 to 1e+09", None),
        ("steps = 3", "hours = inf", 3, "hours is inf, expected 0 to 1e+06", None),
        ("steps = 3", "steps = 0x" + 5000 * "f", 3, "steps is a number of too many digits", None),
        ("clip = 0.5", "clip = 1" + 400 * "0", 7, "clip is a number of too many digits", None),
        (
            'precision = "float32"',
            'precision = "int8"',
            11,
            "precision is 'int8'",
            "choose one of bfloat16, float32",
        ),
        (
            "seed = 1",
            'optimizer = "adam"',
            4,
            "optimizer is 'adam'",
            "choose one of adamw, muon",
        ),
        ("clip = 0.5", "clip = 0", 7, "clip is 0.0, expected above 0, at most 1e+09", None),
        ("clip = 0.5", "clip = nan", 7, "clip is nan, expected above 0, at most 1e+09", None),
        ("seed = 1", "fresh = 1", 4, "fresh is 1, expected bool", None),
        ('data = "data"', 'data = "a\\u0000b"', 2, "data is 'a\\x00b', expected text", None),
        ('data = "data"', 'data = "a\\nb"', 2, "data is 'a\\nb', expected text", None),
        ('data = "data"', f'data = "{5000 * "x"}"', 2, "data is 'xxxx", None),
        ("weight = 1.0", "weight = 1.0\na.b = 1", 16, "sources: unknown key 'a'", None),
        ('data = "data"', 'data = ""', 2, "data is '', expected text", None),
        (
            "general_share = 0.0",
            "general_share = 2",
            9,
            "general_share is 2.0, expected 0 to",
            None,
        ),
        ("memories = 2", "memories = 0", 20, "lengths: memories is 0, expected 1 to 4096", None),
        ("chunks = 1", "chunks = 99999", 19, "lengths: chunks is 99999, expected 1 to 1024", None),
        ("weight = 1.0", "weight = inf", 15, "sources: weight is inf, expected above 0", None),
        ("[[sources]]", "[sources]", 13, "sources is not a list of tables", "write [[sources]]"),
        ("[[lengths]]", "[[lenths]]", 17, "unknown key 'lenths'", "did you mean 'lengths'?"),
        ("seed = 1", "steps = 4", None, "not TOML: Cannot overwrite a value (at line 4", None),
        ("seed = 1", "seed = 1" + 5000 * "0", None, "not TOML: Exceeds the limit", None),
        ("seed = 1", "seed = " + 5000 * "[", None, "not TOML: ", None),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, old: str, new: str, line: int | None, message: str, hint: str | None
) -> None:
    path = write_recipe(tmp_path / "a.toml")
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    got, got_hint = refuse(path)
    assert got.startswith(
        f"{path}: {message}" if line is None else f"{path}, line {line}: {message}"
    )
    assert len(got) < len(str(path)) + 300
    assert hint is None or got_hint == hint


def test_the_same_holds_for_recipes_made_in_python(tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path / "a.toml"))
    with pytest.raises(RecipeError, match=r"learning_rate is -1\.0, expected above 0"):
        replace(recipe, learning_rate=-1.0)
    with pytest.raises(RecipeError, match="lengths: questions is True, expected int"):
        replace(recipe.lengths[0], questions=True)


def test_a_key_is_found_in_its_own_table(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "a.toml")
    with path.open("a") as more:
        more.write('[[sources]]  # the second\n"weight" = 1.0\npath = 7\n')
    assert refuse(path)[0] == f"{path}, line 25: sources: path is 7, expected str"


def test_files_that_are_no_toml_are_refused(tmp_path: Path) -> None:
    assert refuse(tmp_path / "no.toml")[0] == f"{tmp_path / 'no.toml'}: No such file or directory"
    assert refuse(tmp_path)[0] == f"{tmp_path}: Is a directory"
    (tmp_path / "bad.toml").write_text("a = = 1")
    assert refuse(tmp_path / "bad.toml")[0].startswith(f"{tmp_path / 'bad.toml'}: not TOML: ")
    (tmp_path / "raw.toml").write_bytes(b"a = 1\nb = '\xff'\x00")
    assert refuse(tmp_path / "raw.toml")[0] == f"{tmp_path / 'raw.toml'}, line 2: not UTF-8 text"
    (tmp_path / "empty.toml").write_bytes(b"")
    assert (
        refuse(tmp_path / "empty.toml")[0] == f"{tmp_path / 'empty.toml'}: missing key 'checkpoint'"
    )
