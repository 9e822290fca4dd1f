"""One whole turn of the cycle: refine the data, train on it, judge, put the winner in force."""

from kfp import dsl

from components.annotate import annotate
from components.curate import curate
from components.download import download
from components.evaluate import evaluate
from components.finish import finish
from components.plan import plan
from components.promote import promote
from components.score import score
from components.train import train
from components.trials import trials
from pipelines.hardware import launched, on_cpu, on_gpu, uncached

NAME = "hqclip-refine"
DESCRIPTION = "Refine image-text data with an LVLM, train CLIP on it, promote the better model."


def refine(
    store: str,
    download_shards: str,
    evaluate_suite: str,
    plan_preset: str = "small",
    plan_cycle: int = 0,
    plan_overrides: str = "{}",
    plan_launch: str = "",
    annotate_model: str = "",
    train_trials: str = "hqclip",
    train_samples_seen: int = 0,
    train_seed: int = 0,
):
    """One whole turn of the cycle.

    Args:
        store: Root of the store, gs://bucket/prefix or a folder that all tasks share.
        download_shards: Shards to refine, e.g. gs://bucket/pool/{00000..00099}.tar.
        evaluate_suite: Suite to judge with, a suite.json.
        plan_preset: Named settings of all stages (small, medium, large, xlarge, demo, demo-quick).
        plan_cycle: Number of the cycle; 0 continues the open one or opens the next.
        plan_overrides: Further settings as JSON, e.g. {"train.learning_rate": 0.001}.
        plan_launch: Machines, a YAML file at gs:// with a section for each stage that is launched; empty for none.
        annotate_model: LVLM, a folder or a hub name; empty leaves it to the preset.
        train_trials: Training runs of the cycle, comma separated recipes out of raw, mixed, hqclip.
        train_samples_seen: Training budget of each trial; 0 leaves it to the preset.
        train_seed: Seed of the training runs.
    """
    finished = uncached(finish(store=store, owner=dsl.PIPELINE_JOB_ID_PLACEHOLDER))
    with dsl.ExitHandler(finished, name="refine"):
        planned = uncached(
            plan(
                store=store,
                shards=download_shards,
                suite=evaluate_suite,
                preset=plan_preset,
                trials=train_trials,
                cycle=plan_cycle,
                annotate_model=annotate_model,
                train_samples_seen=train_samples_seen,
                train_seed=train_seed,
                overrides=plan_overrides,
                launch=plan_launch,
                launched=launched("annotate", "score", "train", "evaluate"),
                owner=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            )
        )
        the_plan = planned.outputs["planned"]
        with dsl.If(planned.outputs["Output"] == True, name="has-work"):  # noqa: E712 - KFP compares, it does not test
            downloaded = on_cpu(download(planned=the_plan)).outputs["downloaded"]
            annotated = on_gpu(annotate(planned=the_plan, downloaded=downloaded)).outputs["annotated"]
            scored = on_gpu(score(planned=the_plan, downloaded=downloaded, annotated=annotated)).outputs["scored"]
            curated = on_cpu(
                curate(planned=the_plan, downloaded=downloaded, annotated=annotated, scored=scored)
            ).outputs["curated"]
            with dsl.ParallelFor(uncached(trials(planned=the_plan)).output, name="trials", parallelism=2) as trial:
                trained = on_gpu(train(planned=the_plan, curated=curated, trial=trial))
                evaluated = on_gpu(evaluate(planned=the_plan, trained=trained.outputs["trained"]))
            uncached(
                promote(planned=the_plan, curated=curated, evaluated=dsl.Collected(evaluated.outputs["evaluated"]))
            )
