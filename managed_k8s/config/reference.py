"""Writes docs/settings.md from the schema; `make docs` runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from managed_k8s.config import settings

FILE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
_HEAD = """# Settings
One file a cluster, `pillar/clusters/<cluster>.sls`: YAML, Jinja is allowed, everything below the key `managed_k8s`.
What is not set has its default; what has none must be set:

    managed_k8s:
      openstack:
        cloud: mycloud
        external_network: public
      artifacts:
        url: http://mirror.example.org

Wrong settings change nothing: `salt-run managed_k8s.validate` says everything that is
wrong at once. The JSON schema is `managed_k8s/config/settings.schema.json`.

This page is made from it by `make docs`.
"""
_FORMATS = {"ipv4": "IPv4 address", "ipv4network": "IPv4 network", "cron": "cron form, UTC"}


def text() -> str:
    """Return the page."""
    return _HEAD + "".join(_section(name, rule) for name, rule in settings.schema()["properties"].items())


def _section(name: str, rule: Mapping[str, Any]) -> str:
    rows = "".join(_row(key, one, key in rule.get("required", ())) for key, one in rule["properties"].items())
    about = f"{rule['description']}.\n\n" if "description" in rule else ""
    return f"\n## {name}\n{about}| key | | default | |\n|---|---|---|---|\n{rows}"


def _row(key: str, rule: Mapping[str, Any], required: bool) -> str:
    if "properties" in rule:
        rows = (
            _row(f"{key}.{name}", one, name in rule.get("required", ())) for name, one in rule["properties"].items()
        )
        return "".join(rows)
    default = "**required**" if required else f"`{json.dumps(rule['default'])}`"
    return f"| `{key}` | {', '.join(_kinds(rule))} | {default} | {rule['description']} |\n"


def _kinds(rule: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in rule:
        yield " or ".join(f"`{value}`" for value in rule["enum"])
        return
    kinds = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
    words = [_FORMATS.get(rule.get("format", ""), kind) for kind in kinds]
    if "items" in rule:
        words = [f"list of {next(_kinds(rule['items']))}"]
    yield " or ".join(words)
    if "minimum" in rule:
        yield f"{rule['minimum']} to {rule['maximum']}"


if __name__ == "__main__":
    FILE.write_text(text())
