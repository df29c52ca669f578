"""Cloud profiles: what a server is made from, checked as a whole before anything is created."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Required

import pydantic
from pydantic import Field, TypeAdapter, ValidatorFunctionWrapHandler, WrapValidator, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from managed_k8s.config import validation
from managed_k8s.config.validation import STRICT, AddressText

Text = Annotated[str, Field(min_length=1)]


@with_config(STRICT)
class PortPair(TypedDict):
    """The address of a port."""

    port: Text


def _pair(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return IPv4Network(value) and value if isinstance(value, str) else handler(value)
    except ValueError:
        raise PydanticCustomError("pair", "must be an address, a network, or `port: name of a port`") from None


@with_config(STRICT)
class Network(TypedDict, total=False):
    """A port of a server."""

    network: Required[Text]
    fixed_ip: AddressText
    security_groups: list[Text]
    allowed_address_pairs: list[Annotated[str | PortPair, WrapValidator(_pair)]]


@with_config(STRICT)
class BootVolume(TypedDict, total=False):
    """The volume that a server boots from."""

    size: Required[Annotated[int, Field(ge=1)]]
    type: Text


@with_config(STRICT)
class Profile(TypedDict, total=False):
    """The keys of a profile that say what a server is made from; docs/driver.md explains each."""

    cluster: Text
    image: Required[Text]
    flavor: Required[Text]
    networks: Required[Annotated[list[Network], Field(min_length=1)]]
    floating_ip: Text
    server_group: Text
    availability_zone: Text
    boot_volume: BootVolume
    metadata: dict[str, str]
    user_data: Text
    config_drive: bool
    ssh_username: Text
    ssh_key_name: Text
    ssh_key_file: Text
    ssh_gateway: Text
    ssh_timeout: Annotated[int, Field(ge=10)]


# Keys of salt-cloud itself and of the provider, which a profile may override.
SALTS = {
    "provider", "driver", "profile", "name", "minion", "grains", "deploy", "extends", "cloud", "keysize", "requires",
    "minion_archive", "minion_archive_sha256", "minion_index_url", "minion_requirements",
}  # fmt: skip


def own(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return those keys that say what a server is made from."""
    return {key: value for key, value in keys.items() if key in Profile.__annotations__}


@functools.cache
def _rules() -> tuple[TypeAdapter[Profile], dict[str, Any]]:
    """Return what checks a profile, and its JSON schema, with Salt's keys, so that they are suggested, too."""
    schema = validation.schema(Profile)
    return TypeAdapter(Profile), schema | {"properties": schema["properties"] | {key: {} for key in sorted(SALTS)}}


def problems(where: str, profile: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every key of a profile that is unknown or of the wrong kind.

    where: the beginning of each sentence, like `profile demo-worker`.
    """
    adapter, schema = _rules()
    found: list[str] = []
    try:
        adapter.validate_python({key: value for key, value in profile.items() if key not in SALTS})
    except pydantic.ValidationError as error:
        found += validation.sentences(error, schema, "key")
    if "ssh_key_name" in profile and "ssh_key_file" not in profile:
        found.append("ssh_key_name: ssh_key_file is missing, the private half to log in with")
    key_file = profile.get("ssh_key_file")
    if isinstance(key_file, str) and not Path(key_file).is_file():
        found.append(f"ssh_key_file: there is no file {key_file}")
    return [f"{where}: {problem}" for problem in found]
