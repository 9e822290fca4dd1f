"""Judge one model by one suite."""

from components.evaluate import evaluate as judge
from components.plan_evaluation import plan_evaluation
from pipelines.hardware import launched, on_gpu, uncached

NAME = "hqclip-evaluate"
DESCRIPTION = "Judge a CLIP zero-shot: classification, retrieval, compositional choice."


def evaluate(
    store: str,
    evaluate_suite: str,
    evaluate_model: str = "",
    plan_preset: str = "small",
    plan_launch: str = "",
):
    """One model, one suite.

    Args:
        store: Root of the store, gs://bucket/prefix or a folder that all tasks share.
        evaluate_suite: Suite to judge with, a suite.json.
        evaluate_model: Exported model folder in the store, runs/.../model; empty is the champion.
        plan_preset: Named settings of all stages (small, medium, large, xlarge, demo, demo-quick).
        plan_launch: Machines, a YAML file at gs:// with a section for evaluate; empty for none.
    """
    asked = uncached(
        plan_evaluation(
            store=store,
            model=evaluate_model,
            suite=evaluate_suite,
            preset=plan_preset,
            launch=plan_launch,
            launched=launched("evaluate"),
        )
    )
    requested = asked.outputs["requested"]
    on_gpu(judge(planned=requested, trained=requested))
