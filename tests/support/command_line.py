"""Running the lab's command line as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import openstack
from openstack.connection import Connection

CHECKOUT = Path(__file__).parents[2]


def lab(*arguments: str, check: bool = True, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `lab ARGUMENTS` and return what it printed and its exit code; with check, fail when that is not 0."""
    done = subprocess.run(command(*arguments), cwd=CHECKOUT, env=variables(env), capture_output=True, text=True)
    if check:
        assert done.returncode == 0, f"lab {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done


def clouds() -> str | None:
    """Return the path of the lab's clouds.yaml; None when the lab is not up."""
    status = lab("status", "--json", check=False)
    found = json.loads(status.stdout) if status.stdout.startswith("{") else {}
    return str(found["clouds"]) if found.get("up") else None


def connect(clouds: str) -> Connection:
    """Return the plain user's connection to the lab, whatever account this process was told of."""
    for name in [name for name in os.environ if name.startswith("OS_")]:
        del os.environ[name]
    os.environ["OS_CLIENT_CONFIG_FILE"] = clouds
    return openstack.connect(cloud="lab")


def command(*arguments: str) -> list[str]:
    """Return the words that run `lab ARGUMENTS`."""
    return [sys.executable, "-m", "lab", *arguments]


def variables(more: Mapping[str, str] | None) -> dict[str, str]:
    """Return our environment with more in it."""
    return {**os.environ, **(more or {})}
