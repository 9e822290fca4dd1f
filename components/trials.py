"""List the training runs of a cycle."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.ref("base"), install_kfp_package=False)
def trials(planned: dsl.Input[dsl.Dataset]) -> list:
    """List the training runs of a cycle, for the loop over them."""
    import json
    from pathlib import Path

    return json.loads(Path(planned.path).read_text())["trials"]
