"""The files that make Debian's packages the lab's cloud: the tree in files/, rendered.

A name that ends in .j2 is a Jinja template.  SERVICE and HYPERVISOR in a name stand for each service (for uwsgi: each
WSGI program) and each hypervisor.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import jinja2

from lab.cloud.services import ENDPOINTS, SERVICES, units
from lab.settings import Addresses

HERE = Path(__file__).parent
FILES = HERE / "files"

LINKS = {
    "etc/systemd/system/default.target": "lab.target",
    "etc/alternatives/ebtables": "/usr/local/sbin/ebtables-among",
    # Wanted by the sockets, timers and sysinit targets, and of no use here.
    **{
        f"etc/systemd/system/{unit}": "/dev/null"
        for unit in (
            *("iscsid.socket", "rpcbind.socket", "epmd.socket", "dm-event.socket", "timers.target"),
            *("open-iscsi.service", "lvm2-monitor.service", "lvm2-lvmpolld.socket", "blk-availability.service"),
            # Its settings are the whole host's.
            "systemd-sysctl.service",
            *("systemd-pstore.service", "systemd-networkd.socket", "systemd-update-utmp.service"),
        )
    },
}


@dataclasses.dataclass(frozen=True)
class Hypervisor:
    """A hypervisor: a network namespace in the machine, with its own agent and nova-compute."""

    name: str
    address: IPv4Address


def hypervisors(addresses: Addresses) -> list[Hypervisor]:
    """Return the three: a server group of three masters with hard anti-affinity needs as many."""
    return [Hypervisor(f"hv{number}", addresses.hypervisor(number)) for number in (1, 2, 3)]


def sources() -> list[Path]:
    """Return what decides the tree, beside the settings."""
    return [FILES, HERE / "macros.j2", HERE / "services.py", Path(__file__)]


def context(addresses: Addresses, secrets: dict[str, str]) -> dict[str, Any]:
    """Return what the templates may use."""
    hosts = hypervisors(addresses)
    ranges = {
        f"{name}_prefix": getattr(addresses, f"{name}_network").partition("/")[2]
        for name in ("api", "underlay", "external")
    }
    return {
        "api": addresses.api,
        "underlay": addresses.underlay,
        "underlay_network": addresses.underlay_network,
        "external_gateway": addresses.external_gateway,
        "endpoints": ENDPOINTS,
        "hypervisors": hosts,
        "units": units([host.name for host in hosts]),
        "secrets": secrets,
        **ranges,
    }


def render(target: Path, addresses: Addresses, secrets: dict[str, str]) -> None:
    """Write the whole tree into a folder that only root can enter; what was in it is replaced."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700, parents=True)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([FILES, HERE]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
    )
    variables = context(addresses, secrets)
    for source in sorted(path for path in FILES.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        name = str(source.relative_to(FILES))
        for path, more in _expand(name, variables):
            written = target / path.removesuffix(".j2")
            written.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == ".j2":
                written.write_text(environment.get_template(name).render(variables | more))
            else:
                shutil.copyfile(source, written)
            written.chmod(source.stat().st_mode & 0o777)
    for link, destination in LINKS.items():
        (target / link).parent.mkdir(parents=True, exist_ok=True)
        (target / link).symlink_to(destination)


def _expand(name: str, variables: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "SERVICE" in name:
        for service in SERVICES:
            if service.threads or "uwsgi" not in name:
                yield name.replace("SERVICE", service.name), {"service": service}
    elif "HYPERVISOR" in name:
        for host in variables["hypervisors"]:
            yield name.replace("HYPERVISOR", host.name), {"hypervisor": host}
    else:
        yield name, {}
