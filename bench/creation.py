"""From an empty project to a smoke-tested cluster: by hand and by us, one after the other on the same machine."""

from __future__ import annotations

from bench import by_hand, ours
from bench.report import Details, Figures, Row
from bench.setting import BenchError, Setting

MOST_TIMES = 1.5


def measure(setting: Setting) -> Figures:
    """Make both; the one by hand is gone afterwards. Raises BenchError when one is there that may not be replaced."""
    _clear(setting)
    return {"by_hand": by_hand.make_and_remove(setting), "ours": ours.make(setting)}


def _clear(setting: Setting) -> None:
    """Remove what is there of both: it would take processor time, or save steps."""
    names, things = by_hand.there(setting), ours.there(setting)
    if (names or things) and not setting.replace:
        raise BenchError(
            "creation is measured from nothing, and there is already:\n"
            + "\n".join(f"- {thing}" for thing in [*(f"server {name}" for name in names), *things])
            + "\nTo have all of it removed for good: make bench BENCH=--yes, or python -m bench --yes"
        )
    # What an interrupted run by hand left beside servers hinders the next one.
    by_hand.remove(setting)
    if things:
        ours.remove(setting)


def rows(figures: Figures) -> list[Row]:
    """Return the lines of the main table."""
    hand, mine = figures["by_hand"]["seconds"], figures["ours"]["seconds"]
    times = mine / hand
    return [
        Row("empty project to smoke-tested, by hand", f"{hand:.1f} s"),
        Row("map to smoke-tested, by us", f"{mine:.1f} s"),
        Row("by us, times by hand", f"{times:.2f}", f"{MOST_TIMES}", times <= MOST_TIMES),
    ]


def details(figures: Figures) -> list[Details]:
    """Return the steps of both."""
    mine = figures["ours"]
    commands = [
        {"step": "salt-cloud -y -m cluster.map", "seconds": mine["salt_cloud"], "until": mine["salt_cloud"]},
        *mine["steps"],
        {
            "step": "salt-run managed_k8s.wait returns",
            "seconds": mine["waited"] - mine["salt_cloud"],
            "until": mine["waited"],
        },
    ]
    return [
        _steps("By us, step by step (side by side where nothing else is needed)", commands),
        _steps("By hand, step by step", figures["by_hand"]["steps"]),
    ]


def _steps(title: str, steps: list[Figures]) -> Details:
    lines = [
        [
            f"{step['step']}{' (failed)' if step.get('failed') else ''}",
            f"{step['until'] - step['seconds']:.1f} s",
            f"{step['seconds']:.1f} s",
            f"{step['until']:.1f} s",
        ]
        for step in steps
    ]
    return Details(title, ("begins", "takes", "ends"), lines)
