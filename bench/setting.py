"""What is measured: the cluster of a checkout's Salt master, and commands as an operator types them."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from managed_k8s import paths
from managed_k8s.cluster import Cluster
from managed_k8s.operations import clusters
from managed_k8s.salt_master.cli import CONFIGURATION

# Seconds.
_ANSWER_LIMIT = 300


class BenchError(RuntimeError):
    """Something cannot be measured; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A cluster and the Salt master that makes it.

    named: the cluster's name; None for the only one that has settings.
    replace: whether a cluster that is there may be removed.
    found: what other parts of this run found.
    """

    named: str | None = None
    replace: bool = False
    found: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The checkout."""
        return paths.root()

    @functools.cached_property
    def opts(self) -> dict[str, Any]:
        """The Salt master's options. Raises BenchError when this checkout has no Salt master."""
        import salt.config

        if not (self.root / CONFIGURATION).is_file():
            raise BenchError("this checkout has no Salt master; make bench starts it, or: python -m managed_k8s.master")
        opts: dict[str, Any] = salt.config.master_config(str(self.root / "master"))
        return opts

    @functools.cached_property
    def cluster(self) -> Cluster:
        """The cluster. Raises VerbError or InvalidError."""

        return Cluster(self.opts, clusters.choose(self.opts, self.named))

    def salt(self, targets: list[str], *words: str) -> dict[str, Any]:
        """Return what a Salt function says on some minions: id -> answer. Raises BenchError."""
        # Salt asks after its time limit whether minions are still at it; busy ones do not answer that in time.
        options = ("--static", "--out=json", f"--timeout={_ANSWER_LIMIT}")
        output = self.run("salt", *options, "-L", ",".join(targets), *words, capture=True)
        answers: dict[str, Any] = json.loads(output)
        missing = sorted(name for name in targets if answers.get(name) in (None, False))
        if missing:
            raise BenchError(f"salt {' '.join(words)}: no answer from {', '.join(missing)}; is the cluster healthy?")
        return answers

    def run(self, *words: str, env: Mapping[str, str] | None = None, capture: bool = False) -> str:
        """Run a command in the checkout and return what it prints, which is shown unless it is captured.

        words: a program of our virtual environment or a path in the checkout, and its arguments.
        Raises BenchError when it fails.
        """
        print(f"$ {' '.join(words)}", file=sys.stderr, flush=True)
        lines = []
        with subprocess.Popen(
            [_program(words[0]), *words[1:]],
            cwd=self.root,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            for line in process.stdout or ():
                lines.append(line)
                if not capture:
                    print(line, end="", file=sys.stderr, flush=True)
        if process.returncode:
            said = "".join(lines)[-2000:].strip() if capture else ""
            raise BenchError(f"{' '.join(words)}: exit code {process.returncode}\n{said}".strip())
        return "".join(lines)


def _program(name: str) -> str:
    own = Path(sys.executable).parent / name
    return str(own) if own.is_file() else name
