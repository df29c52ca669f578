"""The cluster made by hand: bench/by_hand.sh, with what it prints as figures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from bench import by_hand_cloud
from bench.setting import BenchError, Setting

_SCRIPT = "bench/by_hand.sh"
_LAP = re.compile(r"\s*([\d.]+) s\s+([\d.]+) s  (.+)")


def make_and_remove(setting: Setting) -> dict[str, Any]:
    """Return seconds in all and of each step, from nothing to smoke-tested. Raises BenchError."""
    settings = setting.cluster.settings
    # What is installed is what the cluster's settings say.
    env = {"KUBERNETES_VERSION": settings.kubernetes.version, "MIRROR": settings.artifacts.url}
    try:
        laps = parse(setting.run(_SCRIPT, "up", env=env).splitlines())
    except BenchError as error:
        raise BenchError(f"{error}\nWhat it made is still there; see what is wrong, then: {_SCRIPT} down") from None
    remove(setting)
    return {"seconds": laps[-1]["until"], "steps": laps}


def parse(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return what the script printed of each step: its words, seconds it took, seconds from the start to its end."""
    found = [match.groups() for line in lines if (match := _LAP.fullmatch(line))]
    return [{"step": words, "seconds": float(took), "until": float(until)} for took, until, words in found]


def remove(setting: Setting) -> None:
    """Remove it. Raises BenchError when servers stay."""
    setting.run(_SCRIPT, "down")
    if left := there(setting):
        raise BenchError(f"{_SCRIPT} down: {', '.join(left)} did not go; remove them by hand")


def there(setting: Setting) -> list[str]:
    """Return the servers by hand that are there."""
    names = by_hand_cloud.names()
    return sorted(s.name for s in setting.cluster.cloud.connection.compute.servers() if s.name in names)
