"""What settings accept, and how they say no."""

import dataclasses
import json

import pytest

from hqclip import config, settings
from hqclip.config import PlanConfig, TrainConfig
from hqclip.cycle.config import CompareModelsConfig
from hqclip.errors import ConfigError
from hqclip.presets import PRESETS
from hqclip.recipes import RECIPES
from hqclip.settings import Settings, setting
from hqclip.stages import CYCLE, STAGES

KINDS = [kind for kind in vars(config).values() if isinstance(kind, type) and issubclass(kind, Settings)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Oven(Settings):
    """One field of every type."""

    dish: str = setting("what is baked")
    release: str = setting("version of the oven", "1.0")
    mode: str = setting("where the heat comes from", "top", choices=("top", "bottom", "fan"))
    degrees: int = setting("temperature", 180, minimum=50, maximum=300)
    hours: float = setting("duration", 1.0, above=0)
    light: bool = setting("whether the lamp is on", False)
    guests: tuple[str, ...] = setting("who eats", ())
    trays: tuple[int, ...] = setting("levels in use", ())

    def conflicts(self) -> list[str]:
        return ["a fan at 300 degrees burns"] if (self.mode, self.degrees) == ("fan", 300) else []


def refusal(given: dict, kind: type[Settings] = Oven, where: str = "") -> list[str]:
    """The lines of the refusal."""
    with pytest.raises(ConfigError) as refused:
        kind.from_mapping(given, where)
    return str(refused.value).splitlines()


def test_everything_that_is_wrong_is_said_at_once() -> None:
    given = {"dsh": "bread", "mode": "tpo", "degrees": "hot", "hours": "0", "light": "maybe", "guests": "[1"}
    assert refusal(given, where="oven.") == [
        "unknown setting oven.dsh; did you mean 'dish'?",
        "oven.mode is 'tpo': give one of top, bottom, fan; did you mean 'top'?",
        "oven.degrees must be a number, got 'hot'",
        "oven.hours is 0.0; give more than 0",
        "oven.light must be true or false, got 'maybe'",
        "oven.guests is not valid JSON at character 2: Expecting ',' delimiter, got '[1'",
        "oven.dish is missing: what is baked",
    ]


def test_settings_that_conflict_are_refused_together() -> None:
    assert refusal({"dish": "bread", "mode": "fan", "degrees": 300}) == ["a fan at 300 degrees burns"]


def test_a_setting_that_resembles_nothing_gets_no_suggestion() -> None:
    assert refusal({"dish": "bread", "zzz": 1}) == ["unknown setting zzz"]


def test_dashes_of_a_flag_still_find_the_name() -> None:
    assert settings.did_you_mean("a-b-c-d", ["a_b_c_d"]) == "; did you mean 'a_b_c_d'?"


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("degrees", "200", 200),
        ("degrees", 200.0, 200),
        ("degrees", "200.0", 200),
        ("degrees", "2e2", 200),
        ("hours", "2", 2.0),
        ("hours", 2, 2.0),
        ("light", "True", True),
        ("light", "no", False),
        ("light", True, True),
        ("light", 0, False),
        ("release", "1.10", "1.10"),
        ("guests", '["Ada", "Grace, Rear Admiral"]', ("Ada", "Grace, Rear Admiral")),
        ("guests", " Ada,, Grace ", ("Ada", "Grace")),
        ("guests", ["Ada"], ("Ada",)),
        ("guests", "", ()),
        ("trays", "[1, 2.0]", (1, 2)),
        ("trays", "1,2", (1, 2)),
    ],
)
def test_text_and_whole_floats_become_what_the_field_asks_for(name: str, given: object, meant: object) -> None:
    value = getattr(Oven.from_mapping({"dish": "bread", name: given}), name)
    assert (value, type(value)) == (meant, type(meant))


@pytest.mark.parametrize("seed", [2**53 + 1, str(2**53 + 1)])
def test_a_whole_number_keeps_all_its_digits(seed: object) -> None:
    given = {"store": "s", "dataset": "d", "run": "r", "seed": seed}
    assert TrainConfig.from_mapping(given).seed == 9007199254740993


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("degrees", 180.5, "degrees must be a whole number, got 180.5"),
        ("degrees", "nan", "degrees must be a whole number, got 'nan'"),
        ("degrees", True, "degrees must be a number, got True"),
        ("degrees", None, "degrees must be a number, got None"),
        ("degrees", 49, "degrees is 49; give 50 or more"),
        ("degrees", 301, "degrees is 301; give 300 or less"),
        ("hours", "nan", "hours must be finite, got nan"),
        ("hours", float("inf"), "hours must be finite, got inf"),
        ("hours", -1, "hours is -1.0; give more than 0"),
        ("release", 1.1, "release must be text (a version such as 1.10 needs quotes), got 1.1"),
        ("release", "a\nb", "release contains a control character (U+000A)"),
        ("release", "\0", "release contains a control character (U+0000)"),
        ("release", "{{tasks.x}}", "release is '{{tasks.x}}': '{{' is reserved by Kubeflow templates"),
        ("guests", ["Ada\x1b[31m"], "guests contains a control character (U+001B)"),
        ("guests", "{{x}}", "guests is '{{x}}': '{{' is reserved by Kubeflow templates"),
        ("guests", [1], "guests must be text (a version such as 1.10 needs quotes), got [1]"),
        ("guests", {"Ada": 1}, "guests must be a list, got {'Ada': 1}"),
        ("guests", '["Ada" "Grace"]', "guests is not valid JSON at character 7: Expecting ',' delimiter"),
        ("light", 2, "light must be true or false, got 2"),
        ("dish", " ", "dish is empty: what is baked"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_was_found(name: str, value: object, reason: str) -> None:
    (line,) = refusal({"dish": "bread", name: value})
    assert line.startswith(reason)


def test_a_number_too_large_for_a_float_is_a_fault_and_no_crash() -> None:
    assert refusal({"dish": "bread", "degrees": 10**400})[0].endswith("give 300 or less")
    assert refusal({"dish": "bread", "hours": 10**400})[0].startswith("hours must be a number")


def test_a_list_that_must_be_given_may_not_be_empty() -> None:
    (line,) = refusal({"store": "s", "runs": []}, CompareModelsConfig)
    assert line.startswith("runs is empty: ")


def test_settings_made_in_python_are_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"degrees is 20; give 50 or more\nhours is 0; give more than 0"):
        Oven(dish="bread", degrees=20, hours=0)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Oven(dish="bread").dish = "cake"


def test_settings_survive_json() -> None:
    oven = Oven(dish="bread", guests=("Ada",), trays=(1, 2), light=True, hours=0.1)
    assert Oven.from_mapping(json.loads(json.dumps(oven.to_mapping()))) == oven


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_setting_explains_itself(kind: type[Settings]) -> None:
    assert kind.__doc__
    assert not kind.__doc__.startswith(kind.__name__), "a docstring of dataclasses, not of ours"
    for field in dataclasses.fields(kind):
        text = field.metadata["help"]
        assert len(text) > 3, field.name
        assert text == text.strip().rstrip("."), field.name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_defaults_of_every_setting_are_accepted_as_text(kind: type[Settings]) -> None:
    given = {}
    for field in dataclasses.fields(kind):
        default = "x" if field.default is dataclasses.MISSING else field.default
        given[field.name] = json.dumps(default) if isinstance(default, tuple) else str(default)
    accepted = kind.from_mapping(given)
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            assert getattr(accepted, field.name) == field.default, field.name


def test_a_recipe_changes_only_settings_of_training() -> None:
    settings = {field.name for field in dataclasses.fields(TrainConfig)}
    assert all(set(recipe.settings) <= settings for recipe in RECIPES.values())


def test_raw_and_mixed_leave_out_what_hqclip_adds() -> None:
    def trained_with(recipe: str) -> TrainConfig:
        return TrainConfig(store="s", dataset="d", run="r", **RECIPES[recipe].settings)

    raw, mixed, whole = map(trained_with, ("raw", "mixed", "hqclip"))
    assert raw.generated_share == 0
    assert mixed.generated_share > 0
    assert raw.negative_weight == mixed.negative_weight == raw.tag_weight == mixed.tag_weight == 0
    assert min(whole.generated_share, whole.negative_weight, whole.tag_weight) > 0


def plan(**given: object) -> PlanConfig:
    return PlanConfig.from_mapping({"store": "s", "shards": "x", "suite": "y", **given})


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_resolves_to_settings_its_stages_accept(preset: str) -> None:
    from hqclip.cycle.cycle_settings import resolve

    settings, trials = resolve(plan(preset=preset, trials=("raw", "mixed", "hqclip")))
    assert tuple(settings) == CYCLE
    for stage in CYCLE:
        kind = STAGES[stage].settings
        later = {f.name: "later" for f in dataclasses.fields(kind) if f.name not in settings[stage]}
        assert kind.from_mapping({**settings[stage], **later}).to_mapping() == {**settings[stage], **later} | (
            {"evaluations": ["later"]} if "evaluations" in later else {}
        )
    for trial in trials:
        TrainConfig.from_mapping({**settings["train"], **trial["settings"], "store": "s", "dataset": "d", "run": "r"})


def test_a_plan_says_everything_that_is_wrong_with_it() -> None:
    from hqclip.cycle.cycle_settings import resolve

    overrides = {
        "trian.seed": 1,
        "train.store": "/etc",
        "train.batchsize": 8,
        "annotate.batch_size": 0,
        "curate.drop_share": "most",
    }
    with pytest.raises(ConfigError) as refused:
        resolve(plan(trials=("raw", "hq-clip"), overrides=json.dumps(overrides)))
    assert str(refused.value).splitlines() == [
        "unknown stage in override 'trian.seed'; did you mean 'train'?",
        "override 'train.store': the cycle sets this itself",
        "annotate.batch_size is 0; give 1 or more",
        "curate.drop_share must be a number, got 'most'",
        "unknown setting train.batchsize; did you mean 'batch_size'?",
        "unknown recipe 'hq-clip' in trials; did you mean 'hqclip'?; one of raw, mixed, hqclip",
    ]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"preset": "demo-quik"}, "unknown preset 'demo-quik'; did you mean 'demo-quick'"),
        ({"overrides": '{"train.seed": 1,}'}, "overrides is not valid JSON at character 17"),
        ({"overrides": "[]"}, "overrides must be a JSON object"),
        ({"trials": "raw,raw"}, "give at most 16 different ones"),
        ({"suite": ""}, "suite is missing: what is trained must be judged"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(given: dict, reason: str) -> None:
    from hqclip.cycle.cycle_settings import resolve

    with pytest.raises(ConfigError, match=reason):
        resolve(plan(**given))


def test_an_override_beats_the_preset_and_the_preset_the_default() -> None:
    from hqclip.cycle.cycle_settings import resolve

    given = {"overrides": '{"train.learning_rate": 0.5}', "train_seed": 7, "train_samples_seen": 640, "preset": "demo"}
    train = resolve(plan(**given))[0]["train"]
    default = {f.name: f.default for f in dataclasses.fields(TrainConfig)}
    assert (train["learning_rate"], train["seed"], train["samples_seen"]) == (0.5, 7, 640)
    assert train["batch_size"] == PRESETS["demo"]["train"]["batch_size"] != default["batch_size"]
    assert train["weight_decay"] == PRESETS["demo"]["train"]["weight_decay"]
    assert train["beta2"] == default["beta2"]


def test_what_the_plan_has_under_the_name_of_a_stage_is_a_setting_of_that_stage() -> None:
    named = [field for field in dataclasses.fields(PlanConfig) if field.name.partition("_")[0] in CYCLE]
    assert "train_seed" in [field.name for field in named]
    for field in named:
        stage, _, name = field.name.partition("_")
        assert {f.name: f.type for f in dataclasses.fields(STAGES[stage].settings)}[name] == field.type


def test_one_name_means_one_thing_in_all_stages() -> None:
    kinds: dict[str, set[object]] = {}
    for kind in [STAGES[stage].settings for stage in CYCLE]:
        for field in dataclasses.fields(kind):
            kinds.setdefault(field.name, set()).add(field.type)
    assert {name: types for name, types in kinds.items() if len(types) > 1} == {}
