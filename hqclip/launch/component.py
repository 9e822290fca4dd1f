"""What `torchx run -s hqclip_volcano hqclip.stage ...` calls: a stage as a TorchX component.

TorchX reads the annotations as they stand, so they may not be postponed here.
"""

from hqclip.errors import ConfigError
from hqclip.launch.machines import read_spec
from hqclip.launch.resolve import make_order, warn_of_tags
from hqclip.launch.torchx_scheduler import AppDef, write_app
from hqclip.strict_json import read_json


def stage(stage: str, spec: str, settings: str = "{}", scheduler: str = "volcano") -> AppDef:
    """A stage of hqclip on many machines.

    Args:
        stage: name of the stage, e.g. train
        spec: YAML file with the settings of `hqclip launch`
        settings: settings of the stage as JSON
        scheduler: volcano or jobset, the one that is given to torchx as hqclip_volcano or hqclip_jobset
    """
    try:
        given = read_json(settings)
    except ValueError as error:
        raise ConfigError(f"settings {error}") from None
    if not isinstance(given, dict):
        raise ConfigError('settings must be a JSON object such as {"learning_rate": 0.001}')
    read = read_spec({"scheduler": scheduler}, file=spec, stage=stage)
    order = make_order(read, stage, given)
    warn_of_tags(order)
    return write_app(order)
