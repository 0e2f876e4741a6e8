"""A suffix is trained on pages of a tiny base, and its network compiles and answers."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d2l.errors import RecipeError
from d2l.hypernets.networks import open_network
from d2l_lab.suffix import pages, train
from d2l_lab.suffix.recipe import PageSource, SuffixRecipe, read_suffix_recipe
from examples.training.tests.toy import Lab
from tests import kv
from tests.command import Command

pytestmark = pytest.mark.usefixtures("one_thread")
PLACES = ("harbor", "meadow", "valley", "village", "forest", "market", "garden", "castle")
RECIPES = Path(__file__).parents[2] / "recipes"


def write_questions(folder: Path) -> Path:
    """Documents that share words, each with a question of its own."""
    rows = [
        {
            "doc": f"The pump of the {place} is old. The keeper rinses it every {n + 2} days.",
            "question": f"How often is the pump of the {place} rinsed?",
            "answers": [f"every {n + 2} days"],
        }
        for n, place in enumerate(PLACES)
    ]
    folder.mkdir(exist_ok=True)
    path = folder / "toy.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def recipe(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> SuffixRecipe:
    """A recipe of three steps on a tiny base, whose pages may be short."""
    monkeypatch.setattr(pages, "_TOKENS", (4, 400))
    kv.write_base(working_folder / "tiny-org" / "qwen2-tiny", "qwen2")
    write_questions(working_folder / "data")
    (working_folder / "a.toml").write_text(
        'base = "tiny-org/qwen2-tiny"\ndata = "data"\nsteps = 3\npages = 6\noffline = true\n'
        'device = "cpu"\n\n[[sources]]\npath = "toy.jsonl"\nweight = 1.0\n',
        "utf-8",
    )
    return read_suffix_recipe(Path("a.toml"))


def test_pages_have_own_questions_and_foreign_ones_without_an_answer(recipe: SuffixRecipe) -> None:
    network = open_network("own", base=recipe.base, offline=True)
    drawn = pages.draw_pages(recipe, network.tokenizer)
    assert len(drawn) == 6
    assert drawn == pages.draw_pages(recipe, network.tokenizer)
    for page in drawn:
        ((question, answer),) = page.own
        assert answer in page.text
        assert page.foreign
        assert question not in page.foreign


def test_neighbors_of_one_title_make_one_page(recipe: SuffixRecipe) -> None:
    documents = pages.read_documents(Path(recipe.data) / "toy.jsonl")
    titled = [one._replace(title="Pumps") for one in documents]
    joined = pages.join_texts(titled, PageSource("a", 1.0, "titles"), random.Random(1))
    assert len(joined) < len(documents)
    assert sum(len(asked) for _, asked in joined) == len(documents)
    alone = pages.join_texts(titled, PageSource("a", 1.0), random.Random(1))
    assert len(alone) == len(documents)


def test_steps_on_a_page_lower_its_loss_and_the_base_stays(recipe: SuffixRecipe) -> None:
    network = open_network("own", base=recipe.base, offline=True)
    (page, *_) = pages.draw_pages(recipe, network.tokenizer)
    model = train.load_causal(network.base, device="cpu", dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    opening = network.config.read_opening
    trainer = train.Trainer(model, network.tokenizer, opening, [page.text])
    optimizer = torch.optim.Adam([trainer.change], lr=0.1)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        losses.append(trainer.add_gradients(page, random.Random(5)))  # no whole answers
        optimizer.step()
    assert losses[-1] < losses[0] - 0.1
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_whole_answers_keep_the_distribution_of_the_base(recipe: SuffixRecipe) -> None:
    """Without a change the loss of whole answers is the suffix's text alone; a step changes it."""
    network = open_network("own", base=recipe.base, offline=True)
    (page, *_) = pages.draw_pages(recipe, network.tokenizer)
    model = train.load_causal(network.base, device="cpu", dtype=torch.float32)
    trainer = train.Trainer(model, network.tokenizer, network.config.read_opening, [page.text])
    seed = next(n for n in range(100) if random.Random(n).random() < train._WHOLE_SHARE)
    trainer.add_gradients(page, random.Random(seed))
    assert trainer.change.grad is not None
    whole = trainer.change.grad.clone()
    trainer.change.grad = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Trainer, "_keep_whole", lambda *_: None)
        trainer.add_gradients(page, random.Random(seed))
    assert not torch.allclose(whole, trainer.change.grad)


def test_a_suffix_in_front_is_read_as_its_text_is(recipe: SuffixRecipe) -> None:
    """The keys and values of the text of the end, put behind the page, answer as the text does."""
    network = open_network("own", base=recipe.base, offline=True)
    (page, *_) = pages.draw_pages(recipe, network.tokenizer)
    model = train.load_causal(network.base, device="cpu", dtype=torch.float32)
    trainer = train.Trainer(model, network.tokenizer, network.config.read_opening, [page.text])
    asked, said = [trainer.ask("Where?")], [[5, 6, 7]]
    with torch.no_grad():
        ended = trainer.stack(trainer.read(page.text), 1, ended=True)
        text = trainer.stack(trainer.read(page.text, train.PART_END), 1, ended=False)
        assert ended.get_seq_length() == text.get_seq_length()
        ours = trainer.score(ended, asked, said)
        torch.testing.assert_close(ours, trainer.score(text, asked, said), atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("recipe")
def test_the_network_of_a_recipe_compiles_and_answers(lab: Lab, command: Command) -> None:
    done = lab("suffix", "a.toml", "-o", "my-kv", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == {"checkpoint": "my-kv"}
    tensors = load_file(Path("my-kv/model.safetensors"))
    assert tensors["keys"].shape == tensors["values"].shape
    Path("note.txt").write_text(kv.HANDBOOK, "utf-8")
    options = ("--base", "tiny-org/qwen2-tiny", "--device", "cpu", "--offline")
    with pytest.MonkeyPatch.context() as patch:
        kv.measure_little(patch)
        made = command("compile", "note.txt", "-o", "a.lora", "--checkpoint", "my-kv",
                       "--chunk-tokens", 120, *options)  # fmt: skip
    assert made.code == 0, made.err
    assert command("ask", "a.lora", "Where is the pump?", *options).code == 0
    again = lab("suffix", "a.toml", "-o", "my-kv")
    assert (again.code, again.err.splitlines()[0]) == (1, "error: my-kv exists already")


def test_the_shipped_recipe_is_read_and_mistakes_are_named(tmp_path: Path) -> None:
    recipe = read_suffix_recipe(RECIPES / "suffix.toml")
    assert (recipe.steps, recipe.pages, len(recipe.sources)) == (280, 1400, 15)
    path = tmp_path / "a.toml"
    for text, message in (
        ('base = "a"\n', "data: Field required"),
        ("base = \n", "Invalid value"),
        ('base = "a"\ndata = "b"\nsources = []\nsteps = 0\npages = 1\n', "steps: Input should be"),
    ):
        path.write_text(text, "utf-8")
        with pytest.raises(RecipeError, match=message):
            read_suffix_recipe(path)


def test_too_few_pages_are_refused(recipe: SuffixRecipe, lab: Lab) -> None:
    assert recipe.pages == 6
    Path("a.toml").write_text(Path("a.toml").read_text().replace("steps = 3", "steps = 30"))
    done = lab("suffix", "a.toml", "-o", "my-kv")
    assert (done.code, "the sources give 6 pages for 30 steps" in done.err) == (1, True)
