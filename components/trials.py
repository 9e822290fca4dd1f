"""List the training runs of a cycle."""

from typing import Any, Dict, List  # noqa: UP035 - by these words Kubeflow knows that an item is a mapping

from kfp import dsl

from components import images


@dsl.component(base_image=images.ref("base"), install_kfp_package=False)
def trials(planned: dsl.Input[dsl.Dataset]) -> List[Dict[str, Any]]:  # noqa: UP006
    """List the training runs of a cycle, for the loop over them."""
    import json
    from pathlib import Path

    return json.loads(Path(planned.path).read_text())["trials"]
