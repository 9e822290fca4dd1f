"""A loss is one entry of a table, one function and one setting; it is trained with where a recipe names it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hqclip.config import PlanConfig, TrainConfig
from hqclip.cycle.report import loss_charts
from hqclip.ranks import GlooGroup, Ranks
from hqclip.recipes import LOSSES, RECIPES, Chart, Loss, Recipe
from hqclip.settings import setting
from hqclip.store.local import LocalStore
from hqclip.train import losses
from hqclip.train.batches import Batch
from hqclip.train.losses import Outputs
from hqclip.train.model import HQClip
from hqclip.train.step import Step, adamw

GIVEN = {"store": "s", "dataset": "d", "run": "r", "model": "shapes", "precision": "fp32"}


def test_every_loss_has_its_mathematics_under_the_same_name() -> None:
    assert list(losses.FUNCTIONS) == list(LOSSES)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
def test_weight_and_ramp_of_a_loss_are_settings_of_training(loss: Loss) -> None:
    fields = {field.name: field.type for field in dataclasses.fields(TrainConfig)}
    assert {fields[name] for name in (loss.weight, loss.ramp) if name} <= {"float"}
    assert not loss.ramp or loss.weight
    assert loss.chart.title and not loss.chart.sentence.endswith(".") and loss.chart.caption.endswith(".")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_what_a_recipe_names_is_on_and_nothing_else(recipe: Recipe) -> None:
    settings = vars(TrainConfig(**GIVEN, **recipe.settings))
    assert recipe.losses == tuple(name for name, loss in LOSSES.items() if loss.weight_at(settings))


def test_without_a_recipe_training_is_that_of_the_method() -> None:
    assert RECIPES["hqclip"].settings == {}


def test_the_settings_of_the_recipes_are_those_of_digests_that_exist() -> None:
    assert {name: list(recipe.settings.items()) for name, recipe in RECIPES.items()} == {
        "raw": [("generated_share", 0.0), ("negative_weight", 0.0), ("tag_weight", 0.0)],
        "mixed": [("negative_weight", 0.0), ("tag_weight", 0.0)],
        "hqclip": [],
    }


def test_the_help_of_the_plan_names_the_recipes() -> None:
    (field,) = (field for field in dataclasses.fields(PlanConfig) if field.name == "trials")
    assert f"recipes out of {', '.join(RECIPES)}," in field.metadata["help"]


def test_a_weight_rises_over_its_ramp_and_stays() -> None:
    settings = {"negative_weight": 2.0, "negative_ramp": 0.1}
    assert [LOSSES["negatives"].weight_at(settings, done) for done in (0.0, 0.05, 0.1, 1.0)] == [0, 1, 2, 2]
    assert LOSSES["negatives"].weight_at({**settings, "negative_ramp": 0.0}, 0.0) == 2
    assert LOSSES["contrastive"].weight_at(settings, 0.0) == 1


def test_a_page_about_losses_needs_no_torch() -> None:
    check = "import sys, hqclip.cycle.report as r; sys.exit('torch' in sys.modules or not r.LOSSES)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColourConfig(TrainConfig):
    """Training with one loss more, whose weight is not even 0 by default."""

    colour_weight: float = setting("weight of the colour", 0.5, minimum=0)


@pytest.fixture
def colour(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A loss is added to the registry; of how many images it was asked each time."""
    asked: list[int] = []

    def colour_of_images(outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        asked.append(len(batch.pixels_B3HW))
        return outputs.image_BD.square().mean(), {"colour_accuracy": outputs.scale / 100}

    chart = Chart("Colour", "Naming the colour of an image", guessing="1 is a guess")
    monkeypatch.setitem(LOSSES, "colour", Loss(weight="colour_weight", short="col", chart=chart))
    monkeypatch.setitem(losses.FUNCTIONS, "colour", colour_of_images)
    return asked


def one_step(config: TrainConfig) -> dict[str, float]:
    """What a step on two images measures."""
    torch.manual_seed(0)
    model, ranks = HQClip("shapes", [0.5, 0.5]), Ranks(0, 1, torch.device("cpu"), GlooGroup(1))
    pixels, text = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8), model.tokenizer(["a ring", "a square"])
    batch = Batch(pixels, text, model.tokenizer(["a cross"]), torch.eye(2), torch.ones(2, 2), 1, 2)
    return Step(model, adamw(model, config), config, ranks)(batch, 0.5, False)[0]


@pytest.mark.parametrize("name", RECIPES)
def test_a_loss_that_is_added_is_off_where_no_recipe_names_it(name: str, colour: list[int]) -> None:
    config = ColourConfig(**GIVEN, **RECIPES[name].settings)
    assert config.colour_weight == 0
    measured = one_step(config)
    assert not colour
    assert list(measured)[:5] == ["loss", "contrastive", "negatives", "tags", "negative_accuracy"]
    del LOSSES["colour"]
    assert measured == one_step(TrainConfig(**GIVEN, **RECIPES[name].settings))


def test_a_recipe_that_names_it_has_it_on(colour: list[int]) -> None:
    coloured = Recipe("with colour", ("contrastive", "colour"), {"colour_weight": 0.25})
    config = ColourConfig(**GIVEN, **coloured.settings)
    assert (config.colour_weight, config.negative_weight, config.tag_weight) == (0.25, 0, 0)
    measured = one_step(config)
    assert colour == [2]
    assert measured["loss"] == pytest.approx(measured["contrastive"] + 0.25 * measured["colour"])
    assert measured["colour_accuracy"] > 0


def test_the_page_draws_a_loss_where_it_has_weight(colour: list[int], tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for name, weight in (("with", 0.25), ("without", 0.0)):
        store.write(f"runs/{name}/config.json", json.dumps({"colour_weight": weight}).encode())
        lines = [{"step": step, "loss": 1.0, "contrastive": 1.0, "colour": 1.0} for step in (2, 4)]
        store.write(f"runs/{name}/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    charts = loss_charts(store, [{"name": name, "run": f"runs/{name}"} for name in ("with", "without")])
    drawn = {chart.name: [curve.model for curve in chart.curves] for chart in charts}
    assert drawn == {
        "All parts together": ["with", "without"],
        "Contrast": ["with", "without"],
        "Colour": ["with"],
    }
    assert charts[-1].caption == "Naming the colour of an image; 1 is a guess."
