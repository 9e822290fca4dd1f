"""What `torchx run -s hqclip_volcano hqclip.stage ...` calls: a stage as a TorchX component.

TorchX reads the annotations as they stand, so they may not be postponed here.
"""

import json

from hqclip.errors import ConfigError
from hqclip.launch.machines import read_spec
from hqclip.launch.resolve import make_order, warn_of_tag
from hqclip.launch.torchx_scheduler import AppDef, write_app


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
    read = read_spec({"scheduler": scheduler}, file=spec, stage=stage)
    warn_of_tag(read)
    return write_app(make_order(read, stage, given))
