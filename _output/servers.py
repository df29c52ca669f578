"""
What salt-cloud prints; the exit code is 1 when something failed, while salt-cloud's own is 0 whatever happened.

``Saltfile`` names it for salt-cloud. With another ``--out`` nothing is said by the exit code.
"""

from __future__ import annotations

import multiprocessing
from typing import Any

import salt.defaults.exitcodes
import salt.output

__opts__: dict[str, Any]

# What salt-cloud puts beside or in place of a server's data.
_FAILURES = {"Error", "Errors", "Not Found", "Invalid Actions"}
# Provider, driver, server, and what is said of it.
_DEPTH = 4


def output(data: Any, **kwargs: object) -> None:
    """Print data; end the program when it tells of a failure.

    CLI Example: ``salt-cloud --out=servers -m cluster.map``
    """
    if isinstance(data, dict) and isinstance(data.get("Not Found"), set):
        # Sets are left out by the outputter.
        data = {**data, "Not Found": sorted(data["Not Found"])}
    salt.output.display_output(data, "nested", {**__opts__, "output": "nested"})
    if _failed(data, _DEPTH) or _some_process_failed():
        raise SystemExit(salt.defaults.exitcodes.EX_GENERIC)


def _failed(data: object, depth: int) -> bool:
    if not isinstance(data, dict) or not depth:
        return False
    return any(key in _FAILURES or _failed(value, depth - 1) for key, value in data.items())


def _some_process_failed() -> bool:
    """Wait for the processes that ``salt-cloud -p`` makes servers in; each said by itself what went wrong."""
    # The others that may be there are salt-cloud's own, and stay until it ends.
    makers = [child for child in multiprocessing.active_children() if child.name.startswith("Process-")]
    for maker in makers:
        maker.join()
    return any(maker.exitcode for maker in makers)
