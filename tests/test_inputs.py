"""What one pipeline may be told, and another may not."""

from __future__ import annotations

import json

import pytest

from hqclip.errors import ConfigError
from hqclip.stages import STAGES
from pipelines.client.settings import check_settings
from pipelines.compiling import PIPELINES
from pipelines.inputs import INPUTS

GIVEN = {
    "store": "s",
    "download_shards": "a/{0..1}.tar",
    "evaluate_suite": "suite.json",
    "sweep_trials": '{"train.seed": [1, 2]}',
}


def inputs_of(pipeline: str, **more: str) -> dict[str, str]:
    own = {name: value for name, value in GIVEN.items() if name in INPUTS[pipeline].settings}
    return {**own, **more}


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_what_must_be_given_is_enough(pipeline: str) -> None:
    check_settings(pipeline, inputs_of(pipeline))


@pytest.mark.parametrize(
    "model", ["", "ViT-B-32:laion2b_s34b_b79k", "hf-hub:org/name@main", "gs://b/m", "/models/a:b", "runs/x/model"]
)
def test_a_model_that_may_be_there_is_not_refused_unseen(model: str) -> None:
    check_settings("evaluate", {**inputs_of("evaluate"), "evaluate_model": model})


@pytest.mark.parametrize(
    "url", ["http://host:8000/v1", "https://[::1]:8000", "http://10.0.0.1", "http://a-b.ns.svc/v1"]
)
def test_an_address_is_taken(url: str) -> None:
    overrides = json.dumps({"annotate.engine": "openai", "annotate.server": url})
    check_settings("annotate", {**inputs_of("annotate"), "plan_overrides": overrides})


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_names_begin_with_a_stage_or_say_where(pipeline: str) -> None:
    stages = tuple(f"{stage}_" for stage in STAGES)
    assert all(name == "store" or name.startswith(stages) for name in INPUTS[pipeline].settings)


@pytest.mark.parametrize(
    ("pipeline", "more", "why"),
    [
        ("refine", {"train_trials": ""}, "trials is empty: give recipes, or data_only"),
        ("refine", {"train_trials": "[]"}, "trials is empty"),
        ("refine", {"evaluate_suite": ""}, "suite is missing"),
        ("annotate", {"plan_overrides": '{"train.seed": 1}'}, "override 'train.seed': nothing is trained"),
        ("annotate", {"plan_overrides": '{"promote.margin": 0}'}, "nothing is trained"),
        ("refine", {"plan_gpu_prices": "H100=2.5,L4"}, "--gpu-prices: 'L4' is not like H100"),
        ("sweep", {"plan_gpu_prices": "H100=4-2"}, "--gpu-prices: 'H100=4-2' is not like H100"),
        *(
            (
                "annotate",
                {"plan_overrides": f'{{"annotate.engine": "openai", "annotate.server": "{url}"}}'},
                "no.*address",
            )
            for url in ("http://", "http://:80/v1", "http://host:http/v1", "http://host:99999", "http://[::1/v1")
        ),
        ("evaluate", {"evaluate_model": "ViT-B-33:openai"}, "unknown model 'ViT-B-33'; did you mean 'ViT-B-3"),
        ("refine", {"plan_overrides": '{"evaluate.limit": 8}'}, "evaluate.limit is 8: such numbers decide nothing"),
        (
            "sweep",
            {"plan_overrides": '{"evaluate.limit": "8"}'},
            "evaluate.limit is 8: .* --limit to `hqclip evaluate`",
        ),
        ("annotate", {"plan_overrides": '{"curate.limits": "refused=0.1,refusd=0.1"}'}, "did you mean 'refused'"),
        ("annotate", {"plan_overrides": '{"curate.limits": ["nosuch=1", "ok=1", "some=1"]}'}, "nosuch(.|\n)*'some'"),
        ("annotate", {"plan_overrides": '{"annotate.max_tags": 3}'}, "web-1' has 4 tags, the schema allows 3"),
        ("sweep", {"plan_overrides": '{"curate.name": "x"}'}, "a sweep has settings of train and evaluate only"),
        ("sweep", {"plan_overrides": '{"train.run": "x"}'}, "override 'train.run': the sweep sets this itself"),
        ("sweep", {"sweep_trials": '[{"settings": {"store": "x"}}]'}, "the sweep sets store itself"),
        ("sweep", {"sweep_trials": "[]"}, "give 1 to 16"),
        ("refine", {"plan_overrides": '{"evaluate.suite": "x"}'}, "the cycle sets this itself"),
        (
            "refine",
            {"plan_overrides": '{"train.model": "ViT-B-23"}'},
            "unknown model 'ViT-B-23'; did you mean 'ViT-B-32'",
        ),
        (
            "refine",
            {"plan_overrides": '{"annotate.prompt": "web-2"}'},
            "annotate.prompt is 'web-2': give a file or one",
        ),
        ("refine", {"plan_overrides": '{"annotate.max_new_tokens": 4096}'}, "leaves nothing of max_model_len"),
        ("refine", {"plan_overrides": '{"annotate.max_num_batched_tokens": 256}'}, "a token for .* max_num_seqs .512."),
        ("refine", {"train_trials": "hqclip,hqlcip"}, "unknown recipe 'hqlcip'"),
        ("refine", {"train_seed": "1e30"}, f"train_seed is {int(1e30)}; give {2**63 - 1:,} or less"),
        ("sweep", {"sweep_trials": '{"train.model": ["ViT-B-32", "RN5"]}'}, "unknown model 'RN5'; did you mean 'RN50'"),
        (
            "sweep",
            {"sweep_trials": '{"learning_rate": [1e30]}'},
            "trial .*: train.learning_rate is 1e.30; .*AdamW moves",
        ),
        ("sweep", {"sweep_trials": '{"learning_rate": [NaN]}'}, "trials has NaN in learning_rate.0., which is"),
        ("sweep", {"sweep_trials": '{"weight_decay": [1e9]}'}, "train.weight_decay is 1.*; give 100 or less"),
        ("sweep", {"sweep_trials": '{"tag_weight": [1e6]}'}, "the contrastive loss beside it has weight 1"),
        ("sweep", {"plan_overrides": '{"train.batch_size": 1e9}'}, "train.batch_size is .*: each is compared with all"),
        (
            "sweep",
            {"plan_overrides": '{"evaluate.resamples": 1e9}'},
            "evaluate.resamples is 1000000000; give 1,000,000",
        ),
    ],
)
def test_what_this_pipeline_cannot_do_is_refused_before_anything_is_sent(
    pipeline: str, more: dict[str, str], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        check_settings(pipeline, inputs_of(pipeline, **more))
