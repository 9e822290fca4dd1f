"""Training runs that differ in some settings, on one data set, compared by one suite."""

from kfp import dsl

from components.evaluate import evaluate
from components.select import select
from components.sweep import sweep as prepare
from components.train import train
from components.trials import trials
from pipelines.hardware import launched, on_gpu, uncached

NAME = "hqclip-sweep"
DESCRIPTION = "Train CLIP with several settings on one data set, and compare the results."


def sweep(
    store: str,
    evaluate_suite: str,
    sweep_trials: str,
    curate_dataset: str = "",
    plan_preset: str = "small",
    plan_overrides: str = "{}",
    plan_launch: str = "",
    train_seed: int = 0,
):
    """Trials, train, evaluate, select.

    Args:
        store: Root of the store, gs://bucket/prefix or a folder that all tasks share.
        evaluate_suite: Suite to judge with, a suite.json.
        sweep_trials: What to try as JSON, {"train.learning_rate": [0.001, 0.0005]} or a list of trials; at most 16.
        curate_dataset: Data set to train on, datasets/.../dataset.json; empty takes that of the newest finished cycle.
        plan_preset: Named settings of all stages (small, medium, large, xlarge, demo, demo-quick).
        plan_overrides: Further settings of all trials as JSON, e.g. {"train.samples_seen": 1000000}.
        plan_launch: Machines, a YAML file at gs:// with a section for train or evaluate; empty for none.
        train_seed: Seed of the training runs.
    """
    prepared = uncached(
        prepare(
            store=store,
            suite=evaluate_suite,
            trials=sweep_trials,
            dataset=curate_dataset,
            preset=plan_preset,
            overrides=plan_overrides,
            seed=train_seed,
            launch=plan_launch,
            launched=launched("train", "evaluate"),
        )
    )
    the_plan = prepared.outputs["planned"]
    with dsl.If(prepared.outputs["Output"] == True, name="has-work"):  # noqa: E712 - KFP compares, it does not test
        with dsl.ParallelFor(uncached(trials(planned=the_plan)).output, name="trials", parallelism=4) as trial:
            trained = on_gpu(train(planned=the_plan, curated=the_plan, trial=trial))
            evaluated = on_gpu(evaluate(planned=the_plan, trained=trained.outputs["trained"]))
        uncached(select(planned=the_plan, evaluated=dsl.Collected(evaluated.outputs["evaluated"])))
