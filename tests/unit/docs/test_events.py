"""docs/events.md names every event that the code fires, and no other."""

import re
from pathlib import Path

from managed_k8s.model.steps import KINDS
from managed_k8s.reconcile.reconciler import LOOK_FAILED

ROOT = Path(__file__).resolve().parents[3]
# How events are named where they are fired: History.add, the record of attempts, the news of healing.
FIRED = (
    r'[hH]istory(?:\(.*\))?\.add\(\s*[^,]+,\s*"(\w+)"',
    r'attempting\(.*, "(\w+)"\)',
    r'news\.append\(\([^,]+, "(\w+)"',
)


def fired():
    texts = [path.read_text() for path in (ROOT / "managed_k8s").rglob("*.py")]
    return {what for text in texts for pattern in FIRED for what in re.findall(pattern, text)}


def documented():
    # One table of events, one of those that steps announce.
    tables = [part.split("\n\n")[0] for part in (ROOT / "docs" / "events.md").read_text().split("| what |")[1:]]
    lines = [line for table in tables for line in table.splitlines()[2:]]
    return {what for line in lines for what in re.findall(r"`(\w+)`", line.split("|")[1])}


def test_every_event_is_documented_and_every_documented_one_is_fired():
    found = fired()
    # The patterns find events of every part.
    assert {"begun", "ready", "silent", "healed", "alarm", "upgrade_asked", "restored", "made", "verified"} <= found
    assert documented() == found | {*(kind.event for kind in KINDS.values()), LOOK_FAILED}
