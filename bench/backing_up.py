"""A backup of an etcd of half a gigabyte against plain `etcdctl snapshot save` on the same member."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from bench import big_etcd
from bench.report import Details, Figures, Row
from bench.setting import BenchError, Setting
from managed_k8s.history import History

MOST_TIMES = 3
# Of plain snapshots the best of so many: whatever else runs only makes them longer.
_PLAIN = 3
_ALL = 2000
_FOLDER = "/var/lib/managed-k8s-bench"
_SAVE = (
    f"set -e; mkdir -m 700 -p {_FOLDER}; begun=$(date +%s%N); "
    f"{big_etcd.ETCDCTL} snapshot save {_FOLDER}/plain.db > /dev/null 2>&1; "
    f"echo $(($(date +%s%N) - begun)) $(stat -c %s {_FOLDER}/plain.db); rm -r {_FOLDER}"
)


def measure(setting: Setting) -> Figures:
    """Fill etcd, back it up twice, restore the backup in a drill, and empty etcd again. Raises BenchError."""
    with big_etcd.filled(setting):
        first = _backup(setting)
        plain = [_plain(setting, first["member"]) for _ in range(_PLAIN)]
        second = _backup(setting)
        begun = time.monotonic()
        _verb(setting, "backup_verify")
        drill = round(time.monotonic() - begun, 1)
    return {"plain": plain, "first": first, "second": second, "drill": drill}


def _backup(setting: Setting) -> dict[str, Any]:
    """Take one: its size, seconds of the work and of the whole command, and by how much the repository grew."""
    folder = setting.cluster.backups.repository.folder
    before, begun = _size(folder), time.monotonic()
    made = _verb(setting, "backup", "reason=bench")
    command = round(time.monotonic() - begun, 1)
    entries = reversed(History(setting.cluster.store).last(_ALL))
    entry = next((one for one in entries if one.get("backup") == made["name"] and one["what"] == "made"), None)
    if entry is None:
        raise BenchError(f"the cluster's history does not say how long {made['name']} took")
    return {
        "member": made["member"],
        "size": made["size"],
        "seconds": entry["seconds"],
        "command": command,
        "stored": _size(folder) - before if folder else None,
    }


def _verb(setting: Setting, verb: str, *words: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(
        setting.run("salt-run", "--out=json", f"managed_k8s.{verb}", setting.cluster.name, *words, capture=True)
    )
    return said


def _size(folder: Path | None) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder else 0


def _plain(setting: Setting, member: str) -> dict[str, Any]:
    nanoseconds, size = setting.salt([member], "cmd.run", _SAVE)[member].split()
    return {"seconds": round(int(nanoseconds) / 1e9, 2), "size": int(size)}


def rows(figures: Figures) -> list[Row]:
    """Return the lines of the main table."""
    plain = _best(figures)
    size = f"{figures['first']['size'] / 1e6:,.0f} MB"
    lines = [Row(f"etcdctl snapshot save, {size}, best of {len(figures['plain'])}", f"{plain:.1f} s")]
    for key, what in (
        ("first", f"backup of {size} of etcd: made, moved, archived, verified"),
        ("second", "a second one, of which nearly all is there already"),
    ):
        seconds = figures[key]["seconds"]
        times = seconds / plain
        limit, held = (f"{MOST_TIMES} times", times <= MOST_TIMES) if key == "first" else ("", None)
        lines.append(Row(what, f"{seconds:.1f} s, {times:.1f} times", limit, held))
    return [*lines, Row("restore drill of it", f"{figures['drill']:.1f} s")]


def _best(figures: Figures) -> float:
    return float(min(one["seconds"] for one in figures["plain"]))


def details(figures: Figures) -> list[Details]:
    """Return a table of both backups."""
    lines = [
        [
            what,
            figures[key]["member"],
            f"{figures[key]['seconds']:.1f} s",
            f"{figures[key]['command']:.1f} s",
            "-" if figures[key]["stored"] is None else f"{figures[key]['stored'] / 1e6:,.1f} MB",
        ]
        for key, what in (("first", "first"), ("second", "second"))
    ]
    lines += [[f"plain {n}", figures["first"]["member"], f"{one['seconds']:.1f} s", "-", "-"]
              for n, one in enumerate(figures["plain"], 1)]  # fmt: skip
    return [Details("Backups of a large etcd", ("of", "takes", "whole command", "repository grows by"), lines)]
