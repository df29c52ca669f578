"""The lab's command line."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lab import apt, doctor, host, servers, settings
from lab.command import CommandError
from lab.faults import Fault, FaultError
from lab.lifecycle import Lab, LabError
from lab.machine import MachineError
from lab.progress import Report

app = typer.Typer(no_args_is_help=True, add_completion=False, help="A real OpenStack on this machine.")
ERRORS = (
    FileExistsError,
    LabError,
    MachineError,
    FaultError,
    servers.ServerError,
    CommandError,
    apt.AptError,
    settings.SettingsError,
)


def _lab() -> Lab:
    return Lab(settings.load(), Report())


@app.command()
def up(
    rebuild: Annotated[bool, typer.Option(help="Drop a state made from other inputs, with all servers in it.")] = False,
) -> None:
    """Bring the lab up: OpenStack, server image, Kubernetes artifacts, mirror."""
    lab, start = _lab(), time.monotonic()
    done = lab.up(rebuild=rebuild)
    lab.report.say(f"The lab is up ({time.monotonic() - start:.1f} s)." if done else "The lab is up already.")
    lab.report.say('Use it:  eval "$(make -s lab-env)" && .venv/bin/openstack server list')


@app.command()
def down(
    whichever: Annotated[bool, typer.Option("--any", help="Whichever lab runs on this machine.")] = False,
) -> None:
    """Stop the lab; servers and volumes are there again after the next up."""
    chosen = settings.load()
    if whichever:
        chosen = dataclasses.replace(chosen, state=host.owner() or chosen.state)
    Lab(chosen, Report()).down()


@app.command()
def destroy(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    cache: Annotated[bool, typer.Option("--cache", help="Remove the cache as well.")] = False,
) -> None:
    """Stop the lab and remove its servers, volumes and accounts."""
    lab = _lab()
    if not yes:
        typer.confirm(f"Remove {lab.state.folder} and every server and volume in it?", abort=True)
    lab.destroy(cache=cache)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Say whether the lab is up, and where things are; exit code 1 when it is not up."""
    found = _lab().status()
    if as_json:
        typer.echo(json.dumps(found))
    else:
        table = Table(show_header=False, box=None)
        for name, value in found.items():
            table.add_row(name, ", ".join(value) if isinstance(value, list) else str(value))
        Console().print(table)
    raise typer.Exit(0 if found["up"] else 1)


@app.command(name="doctor")
def examine() -> None:
    """Say what this machine lacks, if anything; changes nothing."""
    problems = doctor.problems(settings.load())
    for problem in problems:
        typer.echo(f"- {problem}")
    if problems:
        raise typer.Exit(1)
    typer.echo("This machine can run the lab.")


@app.command()
def env() -> None:
    """Print what to export to use the lab's cloud."""
    lab = _lab()
    if not lab.state.clouds.exists():
        raise LabError(f"{lab.state.clouds}: not there; the lab was never up: run make lab")
    typer.echo(f"export OS_CLIENT_CONFIG_FILE={lab.state.clouds} OS_CLOUD=lab")


@app.command()
def mirror(folder: Annotated[Path, typer.Argument(help="Where to; made if it is not there.")]) -> None:
    """Copy the mirror to a folder, for a site without internet (docs/mirror.md)."""
    _lab().export_mirror(folder)


@app.command()
def console(
    server: Annotated[str, typer.Argument(help="Name or id.")],
    log: Annotated[bool, typer.Option("--log", help="Print what it wrote to its console, and end.")] = False,
) -> None:
    """Open a root shell in a server, also when its network is broken."""
    from lab import servers

    lab = _lab()
    command = servers.console(lab.machine, server, log=log)
    raise typer.Exit(subprocess.run(command, check=False).returncode)


fault = typer.Typer(no_args_is_help=True, help="Make something go wrong, and undo it.")
app.add_typer(fault, name="fault")
ServerArgument = Annotated[str, typer.Argument(help="Name or id of a server.")]
EndpointArgument = Annotated[str, typer.Argument(help="keystone, glance, placement, nova, neutron or cinder.")]
Rate = Annotated[float, typer.Option(min=0, max=1, help="Share of the requests.")]


def _make(name: str, target: str, **options: float) -> None:
    made = _lab().faults.make(name, target, **options)
    typer.echo(f"{_line(made)}  (undo: lab fault undo {made.name} {made.label})")


def _line(made: Fault) -> str:
    options = "".join(f" {name}={value:g}" for name, value in made.options.items())
    return f"{made.name} {made.label}{options}"


@fault.command(name="power-loss")
def power_loss(server: ServerArgument) -> None:
    """Kill a server at once, as a power cut would; undo powers it on."""
    _make("power-loss", server)


@fault.command()
def freeze(server: ServerArgument) -> None:
    """Stop all processes of a server and its network, without a trace in it; undo thaws it."""
    _make("freeze", server)


@fault.command()
def cut(server: ServerArgument) -> None:
    """Cut a server's network."""
    _make("cut", server)


@fault.command(name="fill-disk")
def fill_disk(server: ServerArgument) -> None:
    """Fill a server's disk to the last byte."""
    _make("fill-disk", server)


@fault.command(name="api-error")
def api_error(service: EndpointArgument, rate: Rate = 1.0) -> None:
    """Let a service's public endpoint answer 503."""
    _make("api-error", service, rate=rate)


@fault.command(name="api-slow")
def api_slow(
    service: EndpointArgument,
    delay: Annotated[float, typer.Option(min=0, help="Seconds.")] = 5.0,
    rate: Rate = 1.0,
) -> None:
    """Let a service's public endpoint answer late."""
    _make("api-slow", service, delay=delay, rate=rate)


@fault.command(name="stop-service")
def stop_service(unit: Annotated[str, typer.Argument(help="For example nova-api, cinder-volume, mariadb.")]) -> None:
    """Stop one of the cloud's services."""
    _make("stop-service", unit)


@fault.command(name="list")
def list_faults(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """List the faults in force."""
    faults = _lab().faults.in_force()
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(entry) for entry in faults]))
    else:
        typer.echo("\n".join(map(_line, faults)) or "No fault is in force.")


@fault.command()
def undo(
    name: Annotated[str, typer.Argument(help="The fault's name, for example cut.")],
    target: Annotated[str, typer.Argument(help="What it was made on; all when left out.")] = "",
) -> None:
    """Undo a fault."""
    _lab().faults.undo(name, target)


@fault.command()
def clear() -> None:
    """Undo all faults."""
    for entry in _lab().faults.clear():
        typer.echo(f"undone: {_line(entry)}")


def main() -> None:
    """Run the command line; an error that is a sentence is printed as one."""
    try:
        app()
    except ERRORS as error:
        Console(stderr=True, highlight=False, markup=False).print(f"lab: {error}")
        raise SystemExit(1) from None
