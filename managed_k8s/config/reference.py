"""Writes docs/settings.md, and the JSON schema for editors, from the settings' models; `make docs` runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from managed_k8s.config import settings, validation

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
SCHEMA = Path(__file__).with_name("settings.schema.json")
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
wrong at once. Editors that know YAML's language server check while one types, by a first line in the file:

    # yaml-language-server: $schema=../../managed_k8s/config/settings.schema.json

This page and that schema are made from `managed_k8s/config/sections.py` by `make docs`.
"""
_FORMATS = {"ipv4": "IPv4 address", "ipv4network": "IPv4 network", "cron": "cron form, UTC"}


def page() -> str:
    """Return docs/settings.md."""
    return _HEAD + "".join(_section(name, rule) for name, rule in settings.schema()["properties"].items())


def schema() -> str:
    """Return the JSON schema of a whole file."""
    rules = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pillar/clusters/<cluster>.sls",
        "type": "object",
        "additionalProperties": False,
        "required": [settings.KEY],
        "properties": {settings.KEY: settings.schema()},
    }
    return json.dumps(rules, indent=1) + "\n"


def _section(name: str, rule: Mapping[str, Any]) -> str:
    rows = "".join(_row(key, one, key in rule.get("required", ())) for key, one in rule["properties"].items())
    return f"\n## {name}\n{rule['description']}.\n\n| key | | default | |\n|---|---|---|---|\n{rows}"


def _row(key: str, rule: Mapping[str, Any], required: bool) -> str:
    if "properties" in rule:
        return "".join(_row(f"{key}.{name}", one, required=False) for name, one in rule["properties"].items())
    default = "**required**" if required else f"`{json.dumps(rule['default'])}`"
    return f"| `{key}` | {', '.join(_kinds(rule))} | {default} | {rule['description']} |\n"


def _kinds(rule: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in rule:
        yield " or ".join(f"`{value}`" for value in rule["enum"])
    elif "items" in rule:
        yield f"list of {next(_kinds(rule['items']))}"
    else:
        yield " or ".join(_FORMATS.get(rule.get("format", ""), kind) for kind in validation.kinds(rule))
    if "minimum" in rule:
        yield validation.limits(rule)


if __name__ == "__main__":
    PAGE.write_text(page())
    SCHEMA.write_text(schema())
