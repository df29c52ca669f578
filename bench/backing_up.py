"""A backup of an etcd of half a gigabyte against plain `etcdctl snapshot save` on the same member."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from bench import big_etcd
from bench.report import Details, Figures, Row
from bench.setting import BenchError, Setting
from managed_k8s.state.history import History

MOST_TIMES = 3
# Of so many plain snapshots the middle one: what else runs on the machine makes each backup longer, too.
_PLAIN = 3
_ALL = 2000
_FOLDER = "/var/lib/managed-k8s-bench"
_SAVE = (
    f"set -e; mkdir -m 700 -p {_FOLDER}; begun=$(date +%s%N); "
    f"{big_etcd.ETCDCTL} snapshot save {_FOLDER}/plain.db > /dev/null 2>&1; "
    f"echo $(($(date +%s%N) - begun)) $(stat -c %s {_FOLDER}/plain.db); rm -r {_FOLDER}"
)


def measure(setting: Setting) -> Figures:
    """Fill etcd, back it up twice, restore the backup in a drill, and empty etcd again. Raises BenchError.

    Once with objects, as clusters have them, and once with what nothing makes smaller.
    """
    return {content: _measured(setting, content) for content in big_etcd.CONTENTS}


def _measured(setting: Setting, content: str) -> dict[str, Any]:
    with big_etcd.filled(setting, content):
        first = _backup(setting)
        plain = [_plain(setting, first["member"])]
        second = _backup(setting)
        plain += [_plain(setting, first["member"]) for _ in range(_PLAIN - 1)]
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
    return [line for content, measured in figures.items() for line in _rows(content, measured)]


def _rows(content: str, measured: dict[str, Any]) -> list[Row]:
    plain = statistics.median(one["seconds"] for one in measured["plain"])
    size = f"{measured['first']['size'] / 1e6:,.0f} MB, {content}"
    lines = [Row(f"etcdctl snapshot save of {size}, median of {len(measured['plain'])}", f"{plain:.1f} s")]
    for key, what in (
        ("first", f"backup of {size}: made, moved, archived, verified"),
        ("second", f"a second one, of which nearly all is there already, {content}"),
    ):
        seconds = measured[key]["seconds"]
        times = seconds / plain
        limited = (content, key) == (big_etcd.OBJECTS, "first")
        limit, held = (f"{MOST_TIMES} times", times <= MOST_TIMES) if limited else ("", None)
        lines.append(Row(what, f"{seconds:.1f} s, {times:.1f} times", limit, held))
    return [*lines, Row(f"restore drill of it, {content}", f"{measured['drill']:.1f} s")]


def details(figures: Figures) -> list[Details]:
    """Return a table of the backups for each content."""
    columns = ("of", "takes", "whole command", "repository grows by")
    return [
        Details(f"Backups of a large etcd: {content}", columns, _lines(measured))
        for content, measured in figures.items()
    ]


def _lines(measured: dict[str, Any]) -> list[list[str]]:
    lines = []
    for key in ("first", "second"):
        one = measured[key]
        stored = "-" if one["stored"] is None else f"{one['stored'] / 1e6:,.1f} MB"
        lines.append([key, one["member"], f"{one['seconds']:.1f} s", f"{one['command']:.1f} s", stored])
    member = measured["first"]["member"]
    return lines + [
        [f"plain {number}", member, f"{one['seconds']:.1f} s", "-", "-"]
        for number, one in enumerate(measured["plain"], 1)
    ]
