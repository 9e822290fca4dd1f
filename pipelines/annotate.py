"""Data only: refine a pool into a data set version, and train nothing."""

from kfp import dsl

from components.annotate import annotate as write_texts
from components.curate import curate
from components.download import download
from components.finish import finish
from components.plan import plan
from components.score import score
from pipelines.hardware import launched, on_cpu, on_gpu, uncached

NAME = "hqclip-annotate"
DESCRIPTION = "Refine image-text data with an LVLM into a data set version; train nothing."


def annotate(
    store: str,
    download_shards: str,
    plan_preset: str = "small",
    plan_cycle: int = 0,
    plan_overrides: str = "{}",
    plan_launch: str = "",
    annotate_model: str = "",
):
    """Data only, out of the champion's judgement if there is a champion.

    Args:
        store: Root of the store, gs://bucket/prefix or a folder that all tasks share.
        download_shards: Shards to refine, e.g. gs://bucket/pool/{00000..00099}.tar.
        plan_preset: Named settings of all stages (small, medium, large, xlarge, demo, demo-quick).
        plan_cycle: Number of the cycle; 0 continues the open one or opens the next.
        plan_overrides: Further settings as JSON, e.g. {"curate.drop_share": 0.2}.
        plan_launch: Machines, a YAML file at gs:// with a section for each stage that is launched; empty for none.
        annotate_model: LVLM, a folder or a hub name; empty leaves it to the preset.
    """
    finished = uncached(finish(store=store, owner=dsl.PIPELINE_JOB_ID_PLACEHOLDER))
    with dsl.ExitHandler(finished, name="annotate"):
        planned = uncached(
            plan(
                store=store,
                shards=download_shards,
                suite="",
                preset=plan_preset,
                trials="",
                cycle=plan_cycle,
                annotate_model=annotate_model,
                train_samples_seen=0,
                train_seed=0,
                overrides=plan_overrides,
                launch=plan_launch,
                launched=launched("annotate", "score"),
                owner=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            )
        )
        the_plan = planned.outputs["planned"]
        with dsl.If(planned.outputs["Output"] == True, name="has-work"):  # noqa: E712 - KFP compares, it does not test
            downloaded = on_cpu(download(planned=the_plan)).outputs["downloaded"]
            annotated = on_gpu(write_texts(planned=the_plan, downloaded=downloaded)).outputs["annotated"]
            scored = on_gpu(score(planned=the_plan, downloaded=downloaded, annotated=annotated)).outputs["scored"]
            on_cpu(curate(planned=the_plan, downloaded=downloaded, annotated=annotated, scored=scored))
