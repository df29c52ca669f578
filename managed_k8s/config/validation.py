"""What is common to everything that operators write: pydantic finds what is wrong, this says it in sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, WithJsonSchema
from pydantic_core import ErrorDetails, PydanticCustomError

from managed_k8s.config import cron

# Nothing is converted, as "5" to 5, and nothing unknown is passed over.
STRICT = ConfigDict(extra="forbid", strict=True)
# Of an error that holds sentences of its own.
_CONTRADICTIONS = "contradictions"
# By the format in the JSON schema.
_FORMS = {
    "cron": "is no schedule in cron form; write it like */15 * * * *, in UTC",
    "ipv4": "is no IPv4 address; write it like 10.30.0.5",
    "ipv4network": "is no IPv4 network; write it like 10.30.0.0/24, without host bits",
}


def _form(name: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "format": name})


class Table(BaseModel):
    """A table of settings; its docstring and its fields' descriptions are told to operators."""

    model_config = STRICT | ConfigDict(frozen=True, use_attribute_docstrings=True)


def _cron(text: str) -> str:
    if not cron.is_valid(text):
        raise ValueError(text)
    return text


# Whoever gets addresses wants texts: OpenStack, Kubernetes, templates.
AddressText = Annotated[str, AfterValidator(lambda text: str(IPv4Address(text))), _form("ipv4")]
NetworkText = Annotated[str, AfterValidator(lambda text: str(IPv4Network(text))), _form("ipv4network")]
CronText = Annotated[str, AfterValidator(_cron), _form("cron")]


def contradictions(problems: Iterable[str]) -> None:
    """Let a validator refuse what it was given, when there are problems: sentences that need no addition."""
    if found := list(problems):
        raise PydanticCustomError(_CONTRADICTIONS, "{problems}", {"problems": found})


def schema(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a type, written out: without references and titles."""
    rules = TypeAdapter(kind).json_schema()
    plain: dict[str, Any] = _written_out(rules, rules.pop("$defs", {}))
    return plain


def _written_out(rules: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(rules, list):
        return [_written_out(rule, definitions) for rule in rules]
    if not isinstance(rules, dict):
        return rules
    rules = dict(rules)
    if reference := rules.pop("$ref", None):
        rules = definitions[reference.rpartition("/")[2]] | rules
    if isinstance(rules.get("title"), str):
        del rules["title"]
    if isinstance(rules.get("description"), str):
        # Docstrings are of several lines.
        rules["description"] = " ".join(rules["description"].split()).removesuffix(".")
    if "default" in rules and "properties" in rules:
        # Each key says its own.
        rules["default"] = {}
    return {key: _written_out(rule, definitions) for key, rule in rules.items()}


def kinds(rule: Mapping[str, Any]) -> list[str]:
    """Return the types of JSON that a rule allows, like `["string", "null"]`."""
    # Keys of tables, which no rule is of, are texts.
    return [str(one.get("type", "string")) for one in rule.get("anyOf", [rule])]


def sentences(error: pydantic.ValidationError, rules: Mapping[str, Any], noun: str) -> Iterable[str]:
    """Yield a sentence for everything that is wrong: the key's path, the value, what is allowed, what to do.

    rules: the JSON schema of what was checked. noun: what a key is called, like `setting`.
    """
    for one in sorted(error.errors(include_url=False), key=lambda one: [str(part) for part in one["loc"]]):
        if one["type"] == _CONTRADICTIONS:
            yield from one["ctx"]["problems"]
        # A list of wrong items alone counts as empty, too; each of them is told.
        elif one["type"] != "too_short" or not one["input"]:
            where = ".".join(str(part) for part in one["loc"] if part != "[key]")
            yield f"{where}: {_explained(one, rules, noun)}" if where else one["msg"]


def _explained(error: ErrorDetails, rules: Mapping[str, Any], noun: str) -> str:
    rule, value = _rule(rules, error["loc"]), error["input"]
    match error["type"]:
        case "extra_forbidden" | "invalid_key":
            *above, key = error["loc"]
            return f"no such {noun}; {_known(str(key), list(_rule(rules, above)['properties']))}"
        case "missing":
            return "is missing" + (f"; {rule['description']}" if "description" in rule else "")
        case "literal_error":
            return f"{value!r} is not one of {', '.join(map(str, rule['enum']))}"
        case "string_pattern_mismatch":
            examples = " or ".join(rule.get("examples", ()))
            return f"{value!r} does not match {error['ctx']['pattern']}; " + (
                f"write it like {examples}" if examples else rule["description"]
            )
        case "greater_than_equal" | "less_than_equal":
            return f"{value!r} must be {limits(rule)}"
        case "string_too_short" | "too_short":
            return f"{value!r} must not be empty"
        case "value_error" if "format" in rule:
            return f"{value!r} {_FORMS[rule['format']]}"
        case kind if kind.endswith("_type"):
            return f"{value!r} must be of type {' or '.join(kinds(rule))}"
    return f"{value!r} {error['msg']}"


def limits(rule: Mapping[str, Any]) -> str:
    """Return which numbers a rule with limits allows."""
    return f"{rule['minimum']} to {rule['maximum']}" if "maximum" in rule else f"at least {rule['minimum']}"


def _known(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {close[0]}? There" if close else "there"
    return f"{hint} are {', '.join(known)}"


def _rule(rules: Mapping[str, Any], path: Iterable[str | int]) -> Mapping[str, Any]:
    for part in path:
        if "items" in rules:
            rules = rules["items"]
        else:
            others = rules.get("additionalProperties")
            rules = rules.get("properties", {}).get(part, others if isinstance(others, dict) else {})
    return rules
