"""Execution modules as Salt loads them on a minion: with its names put into them, and what they import beside them."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def load_module(name: str, pillar: dict[str, Any], kind: str = "modules") -> Any:
    """Load a module; `common` in it is one for all of them, which is made anew each time, as on a minion."""
    utils = str(ROOT / "_utils")
    if utils not in sys.path:
        sys.path.append(utils)
    spec = importlib.util.spec_from_file_location(f"face_{kind}_{name}", ROOT / f"_{kind}" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    vars(module).update(__pillar__=pillar, __salt__={}, __opts__={}, __grains__={})
    return module
