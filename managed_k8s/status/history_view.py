"""What was done to a cluster, why, and how long it took: a pure function of the events in its history."""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

Entry = Mapping[str, Any]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGE = re.compile(r"(\d+)\s*([smhdw])")
_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%H:%M")
# What is said within a step, and that one begins: its end says both.
_WITHIN = ("begun", "progress")
# What became of a step that has no end in the history; and what did not go well.
RUNNING, INTERRUPTED = "running", "interrupted"
BAD = ("failed", "look failed", "refused", INTERRUPTED)


def since(words: str, now: float) -> float:
    """Return a time in seconds since 1970.

    words: an age like 30m, 2h, 7d, or a local time like 2026-11-24 14:00, or 14:00 for today's.
    Raises ValueError.
    """
    age = _AGE.fullmatch(words.strip())
    if age:
        return now - int(age[1]) * _UNITS[age[2]]
    for form in _FORMS:
        try:
            found = datetime.datetime.strptime(words.strip(), form)
        except ValueError:
            continue
        if form == "%H:%M":
            found = datetime.datetime.combine(datetime.datetime.fromtimestamp(now), found.time())
        return found.timestamp()
    raise ValueError(f"since: {words!r} is no time; write it like 2h, 7d, 14:00 or 2026-11-24 14:00")


def done(
    entries: Iterable[Entry], running: Collection[str] = (), node: str | None = None, after: float = 0
) -> list[dict[str, Any]]:
    """Return what was done, oldest first: time (of its end, if it has ended), subject, what, why, seconds.

    entries: of the history, oldest first. running: ids of the steps that run now. node: only what concerns this server.
    after: seconds since 1970.
    """
    begun: dict[str, Entry] = {}
    found: list[dict[str, Any]] = []
    for entry in entries:
        step = entry.get("step")
        if entry["what"] == "begun" and step:
            # A reconciler that was killed announced no end.
            if step in begun:
                found.append(_row(begun[step], INTERRUPTED))
            begun[step] = entry
        elif entry["what"] not in _WITHIN:
            begun.pop(step, None) if step else None
            found.append(_row(entry, entry["what"]))
    found += [_row(entry, RUNNING if step in running else INTERRUPTED) for step, entry in begun.items()]
    found.sort(key=lambda row: float(row["time"]))
    return [row for row in found if row["time"] >= after and node in (None, row["subject"])]


def _row(entry: Entry, what: str) -> dict[str, Any]:
    return {
        "time": entry["time"],
        "subject": entry["subject"],
        "what": what.replace("_", " "),
        "why": entry["reason"],
        "seconds": entry.get("seconds"),
    }


def summary(rows: Sequence[Entry]) -> dict[str, Any]:
    """Return how many things were done, failed, and the seconds that they took together."""
    return {
        "count": len(rows),
        "failed": sum(row["what"] in BAD for row in rows),
        "seconds": round(sum(row["seconds"] or 0 for row in rows), 1),
    }
