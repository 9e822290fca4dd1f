"""Whether there is anything to do, and what is refused before any work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hqclip.config import DemoWorldConfig, PlanConfig
from hqclip.cycle.cycle_settings import resolve
from hqclip.cycle.finish import finish
from hqclip.cycle.keys import record_key
from hqclip.cycle.plan import run
from hqclip.data.sources import list_shards
from hqclip.demo.world import make_world
from hqclip.errors import ConfigError, ConflictError, DataError, NotFoundError
from hqclip.evaluate.suite import choose, read_suite
from hqclip.records import Champion, CyclePlan, CycleRecord, digest_of
from hqclip.store import open_store


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_world(DemoWorldConfig(store=str(tmp_path_factory.mktemp("world")), images=12, scenes=8))


def plan(root: Path, world: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {"shards": world["shards"], "suite": world["suite"], "preset": "demo-quick", **more}
    return run(PlanConfig.from_mapping({"store": str(root / "store"), **given}))


def close(root: Path, cycle: int, champion: str, verdict: str = "promoted") -> None:
    """Close a cycle as `promote` does, with this model in force if it was promoted."""
    store = open_store(str(root / "store"))
    planned = plan_of(root, cycle)
    record = CycleRecord(
        cycle=cycle,
        parent=0,
        fingerprint=planned["fingerprint"],
        dataset="datasets/d/dataset.json",
        runs=(),
        candidate="",
        verdict=verdict,
        reason="",
        report="",
    )
    if verdict == "promoted":
        crown(root, cycle, champion)
    store.write(record_key(cycle), record.to_json())


def crown(root: Path, cycle: int, champion: str) -> None:
    """Put the model of a cycle in force, judged by its suite."""
    evaluation = f"evaluations/{champion}/{plan_of(root, cycle)['provenance']['suite']}.json"
    pointer = Champion(model=f"runs/{champion}/model", model_digest=champion, evaluation=evaluation, cycle=cycle)
    store = open_store(str(root / "store"))
    store.write(evaluation, b"{}")
    store.write("champion.json", pointer.to_json(), create_only=False)


def plan_of(root: Path, cycle: int) -> dict[str, Any]:
    return dict(json.loads((root / "store" / "cycles" / f"{cycle:06d}.plan.json").read_text()))


def test_a_new_store_opens_the_first_cycle_and_a_second_call_continues_it(tmp_path: Path, world: dict[str, Any]):
    first = plan(tmp_path, world)
    assert (first["cycle"], first["has_work"]) == (1, True)
    assert plan(tmp_path, world) == first


def test_a_new_champion_opens_the_next_cycle_and_scores_its_data(tmp_path: Path, world: dict[str, Any]):
    plan(tmp_path, world)
    close(tmp_path, 1, "strong")
    second = plan(tmp_path, world)
    assert (second["cycle"], second["has_work"]) == (2, True)
    assert second["settings"]["score"]["champion"] == "runs/strong/model"
    assert second["settings"]["curate"]["parent"] == "d"


def test_the_same_data_settings_and_champion_have_nothing_to_do(tmp_path: Path, world: dict[str, Any]):
    plan(tmp_path, world)
    close(tmp_path, 1, "strong")
    plan(tmp_path, world)
    close(tmp_path, 2, "strong")  # the second cycle's candidate was refused
    again = plan(tmp_path, world)
    assert (again["cycle"], again["has_work"]) == (2, False)
    assert "cycle 2 is done" in again["reason"]
    assert plan(tmp_path, world, train_seed=1)["cycle"] == 3


def test_a_cycle_keeps_the_settings_it_was_opened_with(tmp_path: Path, world: dict[str, Any]):
    plan(tmp_path, world, cycle=1)
    with pytest.raises(ConflictError, match="cycle 1 was planned with other settings.*plan_cycle=0"):
        plan(tmp_path, world, cycle=1, train_seed=7)


def test_an_open_cycle_goes_on_against_its_own_champion_only(tmp_path: Path, world: dict[str, Any]):
    plan(tmp_path, world)
    close(tmp_path, 1, "won", verdict="waits for approval")
    assert plan(tmp_path, world, train_seed=1)["cycle"] == 2
    assert plan(tmp_path, world, train_seed=1)["cycle"] == 2
    crown(tmp_path, 1, "won")  # somebody approved it
    third = plan(tmp_path, world, train_seed=1)
    assert (third["cycle"], third["has_work"]) == (3, True)
    assert third["settings"]["score"]["champion"] == "runs/won/model"
    with pytest.raises(ConflictError, match="cycle 2 was planned .* or against another champion; .*plan_cycle=0"):
        plan(tmp_path, world, train_seed=1, cycle=2)


def test_data_that_another_champion_would_score_is_work_for_a_cycle_without_training(
    tmp_path: Path, world: dict[str, Any]
):
    plan(tmp_path, world)
    close(tmp_path, 1, "won", verdict="waits for approval")
    data_only = {"trials": "", "suite": "", "data_only": True}
    second = plan(tmp_path, world, **data_only)
    open_store(str(tmp_path / "store")).write(f"{second['notes']}curate.json", b"{}")
    crown(tmp_path, 1, "won")
    third = plan(tmp_path, world, **data_only)
    assert (second["cycle"], third["cycle"], third["has_work"]) == (2, 3, True)
    assert plan(tmp_path, world, cycle=2, **data_only)["has_work"] is False  # what is done stays done


def test_a_cycle_of_an_older_version_goes_on_though_it_knew_fewer_settings(tmp_path: Path, world: dict[str, Any]):
    first = plan(tmp_path, world)
    path = tmp_path / "store" / first["plan"]
    planned = CyclePlan.from_json(path.read_bytes(), "")
    given = {name: world[name] for name in ("shards", "suite")}
    known, trials = resolve(PlanConfig(store="s", preset="demo-quick", **given))
    del known["train"]["max_skipped_steps"], known["curate"]["limits"]
    source = [[shard.name, shard.size, shard.identity] for _, shard in list_shards(world["shards"])]
    fingerprint = digest_of([source, read_suite(world["suite"]).digest, known, trials, None])
    path.write_bytes(replace(planned, settings=known, fingerprint=fingerprint).to_json())
    assert plan(tmp_path, world)["cycle"] == 1
    with pytest.raises(ConflictError, match="was planned with other settings"):
        plan(tmp_path, world, cycle=1, overrides='{"train.max_skipped_steps": 3}')


def test_what_is_no_suite_is_said(tmp_path: Path, world: dict[str, Any]):
    folder = world["suite"].removesuffix("suite.json")
    for name in ("retrieval.json", "images.tar"):
        with pytest.raises(DataError, match=f"{name}: not a suite manifest"):
            plan(tmp_path, world, suite=folder + name)
    with pytest.raises(NotFoundError, match="nowhere.json"):
        plan(tmp_path, world, suite=folder + "nowhere.json")


def test_nothing_is_opened_when_a_setting_is_wrong(tmp_path: Path, world: dict[str, Any]):
    with pytest.raises(ConfigError, match="trials: give at most 16 different ones, got 2"):
        plan(tmp_path, world, trials="raw,raw")
    assert not (tmp_path / "store").exists()


def test_what_is_said_of_training_is_refused_where_nothing_is_trained(tmp_path: Path, world: dict[str, Any]):
    nothing = {"trials": "", "data_only": True}
    with pytest.raises(ConfigError) as refusal:
        plan(tmp_path, world, train_seed=5, train_samples_seen=10, **nothing)
    for name in ("suite", "train_seed", "train_samples_seen"):
        assert f"{name}: nothing is trained, as data_only is true; leave it out" in str(refusal.value)
    assert not (tmp_path / "store" / "cycles").exists()


def test_a_launch_file_may_serve_a_pipeline_that_trains_nothing_too(
    tmp_path: Path, world: dict[str, Any], capsys: pytest.CaptureFixture[str]
):
    machines = tmp_path / "machines.yaml"
    machines.write_text("train: {nproc: 2}\nannotate: {nodes: 2}\n")
    planned = plan(tmp_path, world, suite="", launch=str(machines), trials="", data_only=True)
    assert list(planned["machines"]) == ["annotate"]
    assert f"{machines}: its section train is left out here" in capsys.readouterr().err


def test_a_prompt_file_that_is_here_is_read_before_anything_runs(tmp_path: Path, world: dict[str, Any]):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Describe it. {image} {alt_text}")
    overrides = f'{{"annotate.prompt": "{prompt}"}}'
    assert plan(tmp_path, world, overrides=overrides)["has_work"]
    prompt.write_text("Describe it.")
    with pytest.raises(ConfigError, match="annotate.prompt: prompt 'prompt' has the mark {image} 0 times"):
        plan(tmp_path, world, overrides=overrides)
    prompt.unlink()  # it may be on the machines of annotate only
    assert plan(tmp_path, world, overrides=overrides)["has_work"]


def test_a_bar_for_a_benchmark_that_the_suite_lacks_is_refused_before_anything_runs(
    tmp_path: Path, world: dict[str, Any]
):
    slip = '{"promote.floor": ["clasification=0.2"], "promote.max_drop": "retrieval=0.01"}'
    with pytest.raises(ConfigError, match="floor names 'clasification', which .* have; did you mean 'classification'?"):
        plan(tmp_path, world, overrides=slip)
    assert not list(open_store(str(tmp_path / "store")).list("cycles/"))
    left_out = '{"evaluate.sets": "retrieval", "promote.floor": "classification=0.2"}'
    with pytest.raises(ConfigError, match="floor names 'classification', which the suite does not have; it has retrie"):
        plan(tmp_path, world, overrides=left_out)
    planned = plan(tmp_path, world, overrides=slip.replace("clas", "class"))
    assert planned["settings"]["promote"]["floor"] == ["classification=0.2"]


def test_a_cycle_whose_winner_waits_for_approval_says_so(tmp_path: Path, world: dict[str, Any]):
    plan(tmp_path, world)
    close(tmp_path, 1, "won", verdict="waits for approval")
    planned = plan(tmp_path, world)
    assert planned["has_work"] is False
    assert planned["reason"] == (
        "cycle 1 is done: the same data, settings and champion; its winner waits for approval: "
        f"`hqclip approve --store {tmp_path}/store --cycle 1`"
    )


def test_the_machines_of_each_stage_are_part_of_the_plan_but_not_of_the_cycle(tmp_path: Path, world: dict[str, Any]):
    machines = tmp_path / "machines.yaml"
    machines.write_text("retries: 1\nenv: {A: b}\ntrain: {nproc: 2}\nannotate: {nodes: 4, retries: 5}\n")
    planned = plan(tmp_path, world, launch=str(machines))["machines"]
    assert sorted(planned) == ["annotate", "train"]
    assert (planned["train"]["nproc"], planned["train"]["retries"], planned["train"]["env"]) == (2, 1, ["A=b"])
    assert (planned["annotate"]["nodes"], planned["annotate"]["retries"]) == (4, 5)
    assert plan(tmp_path, world)["machines"] == {}  # the same cycle goes on without them


def test_a_suite_by_which_the_champion_was_not_judged_is_refused_before_anything_runs(
    tmp_path: Path, world: dict[str, Any]
):
    plan(tmp_path, world)
    close(tmp_path, 1, "strong")
    store = open_store(str(tmp_path / "store"))
    one = {"evaluate.sets": [read_suite(world["suite"]).benchmarks[0].name]}
    judged = choose(read_suite(world["suite"]), one["evaluate.sets"]).digest
    with pytest.raises(NotFoundError, match=f"strong/{judged}.json: the champion was not judged on this suite"):
        plan(tmp_path, world, overrides=json.dumps(one))
    assert not (tmp_path / "store" / "cycles" / "000002.plan.json").exists()
    assert plan(tmp_path, world, trials="", suite="", data_only=True)["cycle"] == 2, "nothing is held against it"
    store.write(f"evaluations/strong/{judged}.json", b"{}")
    assert plan(tmp_path, world, overrides=json.dumps(one))["has_work"]


def test_a_share_that_cannot_be_dropped_is_refused_where_there_are_scores(tmp_path: Path, world: dict[str, Any]):
    overrides = '{"curate.drop_share": 0.3}'
    plan(tmp_path, world, overrides=overrides)  # without a champion nothing is dropped by it
    close(tmp_path, 1, "strong")
    with pytest.raises(ConfigError, match="drop_share is 0.3, so more .* than curate.max_drop_rate .0.25. allows"):
        plan(tmp_path, world, overrides=overrides)
    assert not (tmp_path / "store" / "cycles" / "000002.plan.json").exists()
    for allowed in ('{"curate.drop_share": 0.25}', '{"curate.drop_share": 0.3, "curate.max_drop_rate": 0.3}'):
        assert plan(tmp_path, world, overrides=allowed)["has_work"]
    many_faults = '{"curate.drop_share": 0.3, "annotate.max_fault_rate": 0.5}'
    assert plan(tmp_path, world, overrides=many_faults)["has_work"]  # of those that have a description


def test_a_model_that_several_ranks_cannot_train_is_refused_before_data_is_made(tmp_path: Path, world: dict[str, Any]):
    machines = tmp_path / "machines.yaml"
    machines.write_text("train: {scheduler: local, nproc: 2}\n")
    given = {"overrides": '{"train.model": "RN50"}', "trials": "raw"}
    with pytest.raises(ConfigError, match="^model RN50 normalises over the batch, .* each of 2 ranks"):
        plan(tmp_path, world, launch=str(machines), **given)
    assert not (tmp_path / "store" / "cycles").exists()
    assert plan(tmp_path, world, **given)["has_work"]


def test_scores_want_a_gpu_and_their_machines_only_where_there_is_a_champion(tmp_path: Path, world: dict[str, Any]):
    machines = tmp_path / "machines.yaml"
    machines.write_text("score: {}\ntrain: {nproc: 2}\n")
    first = plan(tmp_path, world, launch=str(machines))
    assert (first["score_gpus"], sorted(first["machines"])) == ("0", ["train"])
    close(tmp_path, 1, "strong")
    second = plan(tmp_path, world, launch=str(machines))
    assert (second["score_gpus"], sorted(second["machines"])) == ("1", ["score", "train"])


def test_a_model_that_cannot_be_made_is_refused_before_a_gpu_is_asked_for(tmp_path: Path, world: dict[str, Any]):
    for model, kind, said in (
        ("ViT-B-23", ConfigError, "unknown model 'ViT-B-23'; did you mean 'ViT-B-32'"),
        ("roberta-ViT-B-32", NotFoundError, "needs roberta-base of a hub: .*fetch it once where there is a network"),
    ):
        with pytest.raises(kind, match=said):
            plan(tmp_path, world, overrides=f'{{"train.model": "{model}"}}')
    assert not (tmp_path / "store" / "cycles").exists()


def test_machines_that_do_not_fit_are_refused_all_at_once(tmp_path: Path, world: dict[str, Any]):
    machines = tmp_path / "machines.yaml"
    machines.write_text("train: {nproc: 3}\nscore: {nodes: 2}\nannotate: {nproc: 2}\nplan: {}\n")
    with pytest.raises(ConfigError) as refusal:
        plan(tmp_path, world, launch=str(machines))
    said = str(refusal.value)
    assert "batch_size 64 does not divide into equal shares for 3 ranks; give 63 or 66" in said
    assert "nodes is 2, but score runs on one" in said
    assert "nproc is 2, but annotate is no gang" in said
    assert "plan runs where it is called" in said
    machines.write_text("scheduler: volcano\nimage: a/b:1\ntrain: {nodess: 2}\n")
    with pytest.raises(ConfigError, match="unknown nodess; did you mean 'nodes'"):
        plan(tmp_path, world, launch=str(machines))
    machines.write_text("scheduler: volcano\nimage: a/b:1\ntrain: {nodes: 2}\n")
    with pytest.raises(ConfigError, match="is a folder: pods of other machines do not see it"):
        plan(tmp_path, world, launch=str(machines))
    assert not (tmp_path / "store" / "cycles").exists()


def test_a_run_that_comes_while_another_works_has_nothing_to_do(tmp_path: Path, world: dict[str, Any]):
    first = plan(tmp_path, world, owner="monday")
    assert first["has_work"]
    second = plan(tmp_path, world, owner="tuesday")
    assert not second["has_work"]
    assert "skipped: cycle 1 is being refined by run monday" in second["reason"]
    assert (first["locked_by"], second["locked_by"]) == ("", "monday")
    assert plan(tmp_path, world, owner="monday") == first  # its own task again
    finish(str(tmp_path / "store"), "monday")
    assert plan(tmp_path, world, owner="tuesday")["has_work"]


def test_a_run_that_is_kept_out_opens_no_cycle(tmp_path: Path, world: dict[str, Any]):
    first = plan(tmp_path, world, owner="monday")
    other = plan(tmp_path, world, owner="tuesday", train_seed=7)
    assert not other["has_work"] and other["locked_by"] == "monday"
    finish(str(tmp_path / "store"), "monday")
    again = plan(tmp_path, world, owner="wednesday")
    assert (again["cycle"], again["has_work"]) == (first["cycle"], True), "it goes on from what monday has left"
    finish(str(tmp_path / "store"), "wednesday")
    assert plan(tmp_path, world, owner="tuesday", train_seed=7)["cycle"] == 2


def test_a_cycle_without_training_runs_wants_no_judge(tmp_path: Path, world: dict[str, Any]):
    planned = plan(tmp_path, world, trials="", suite="", data_only=True)
    assert planned["has_work"] and planned["trials"] == []
    store = open_store(str(tmp_path / "store"))
    store.write(f"{planned['notes']}curate.json", b"{}")
    assert not plan(tmp_path, world, trials="", suite="", data_only=True)["has_work"]


def test_a_pipeline_that_launches_wants_machines_before_anything_runs(tmp_path: Path, world: dict[str, Any]):
    machines = tmp_path / "machines.yaml"
    machines.write_text("train: {nproc: 2}\n")
    with pytest.raises(ConfigError, match="annotate: this pipeline was compiled with --launched for it"):
        plan(tmp_path, world, launch=str(machines), launched="annotate,train")
    with pytest.raises(ConfigError, match="annotate, train: this pipeline was compiled with --launched"):
        plan(tmp_path, world, launched="annotate,train")
    assert not (tmp_path / "store" / "cycles").exists()
    assert plan(tmp_path, world, launch=str(machines), launched="train")["has_work"]
