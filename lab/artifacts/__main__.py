"""`python -m lab.artifacts VERSION...`: build the artifacts of Kubernetes versions without the rest of the lab."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lab import artifacts, settings
from lab.artifacts import matrix
from lab.cache import Cache
from lab.progress import Report


def main() -> int:
    """Print the folder of each version that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m lab.artifacts", description=__doc__)
    parser.add_argument("kubernetes", nargs="+", choices=matrix.versions())
    parser.add_argument("--cache", type=Path, help="cache folder, instead of the lab's")
    given = parser.parse_args()
    if problems := artifacts.problems():
        print("\n".join(problems), file=sys.stderr)
        return 1
    cache, report = Cache(given.cache.absolute() if given.cache else settings.load().cache), Report()
    for version in given.kubernetes:
        print(artifacts.build(cache, version, report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
