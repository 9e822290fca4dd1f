"""What `torchx run -s hqclip_volcano hqclip.stage ...` calls: a stage as a TorchX component.

TorchX reads the annotations as they stand, so they may not be postponed here.
"""

import json

from hqclip.errors import ConfigError
from hqclip.launch.app import AppDef, app_def
from hqclip.launch.resolve import resolve_order
from hqclip.launch.spec import read_spec


def stage(stage: str, spec: str, settings: str = "{}", scheduler: str = "volcano") -> AppDef:
    """A stage of hqclip on many machines.

    Args:
        stage: name of the stage, e.g. train
        spec: YAML file with the settings of `hqclip launch`
        settings: settings of the stage as JSON
        scheduler: volcano or jobset, the one that is given to torchx as hqclip_volcano or hqclip_jobset
    """
    try:
        given = json.loads(settings)
    except json.JSONDecodeError as error:
        raise ConfigError(f"settings is not valid JSON at character {error.pos}: {error.msg}") from None
    order = resolve_order(read_spec({"scheduler": scheduler}, file=spec, stage=stage), stage, given)
    return app_def(order.spec, order.job)
