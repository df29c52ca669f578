"""The Salt master of a checkout: `python -m managed_k8s.master start|stop|status|export|import|forget`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import psutil
import tenacity
import typer
import yaml

from managed_k8s import names, paths
from managed_k8s.config import cluster_map
from managed_k8s.openstack import project_binding
from managed_k8s.salt_master import export
from managed_k8s.state import queue
from managed_k8s.state.store import BACKUPS, Store

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The Salt master of this checkout.")

CONFIGURATION = Path("master.d") / "checkout.conf"


def state_folder() -> Path:
    """Return where the Salt master keeps keys and state: below the user's state folder."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "managed-k8s" / "salt"


def configuration(root: Path, state: Path, interface: str) -> dict[str, Any]:
    """Return the settings that depend on where this checkout lies and on this machine."""
    return {
        "interface": interface,
        "root_dir": str(state),
        "pidfile": "/master.pid",
        "conf_file": str(root / "master"),
        "file_roots": {"base": [str(root / "salt")]},
        "pillar_roots": {"base": [str(root / "pillar")]},
        "cloud_dirs": [str(root / "_clouds")],
        "runner_dirs": [str(root / "_runners")],
        "engines_dirs": [str(root / "_engines")],
        "outputter_dirs": [str(root / "_output")],
        "pillar_dirs": [str(root / "_pillar")],
        "managed_k8s": {"checkout": str(root)},
    }


def code_digest(root: Path) -> str:
    """Return a SHA-256 of what the Salt master loads once: our code and its settings."""
    files = [root / "master.d" / "managed-k8s.conf"]
    for folder in ("managed_k8s", "_runners", "_engines", "_pillar", "_output"):
        files += sorted(path for path in (root / folder).rglob("*") if path.is_file() and path.suffix != ".pyc")
    return paths.digest(
        [(str(path.relative_to(root)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    )


def configure(root: Path, state: Path, interface: str) -> bool:
    """Write master.d/checkout.conf; return whether it changed."""
    text = "# Written by `python -m managed_k8s.master start`.\n"
    text += yaml.safe_dump(configuration(root, state, interface))
    file = root / CONFIGURATION
    if file.is_file() and file.read_text() == text:
        return False
    file.write_text(text)
    return True


def link_clouds(root: Path, file: Path) -> None:
    """Make clouds.yaml in the checkout a link to the operator's; a file of its own there is never touched."""
    link, target = root / "clouds.yaml", file.expanduser().absolute()
    if not target.is_file():
        raise typer.BadParameter(f"{target} does not exist", param_hint="--clouds-yaml")
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise typer.BadParameter(f"{link} is there and no link; move it away", param_hint="--clouds-yaml")
    link.symlink_to(target)


def running(state: Path) -> psutil.Process | None:
    """Return the master's first process, or None."""
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int((state / "master.pid").read_text()))
        # A number that was given to another program in the meantime is not ours.
        if "salt-master" in " ".join(process.cmdline()) or "salt" in process.name().lower():
            return process
    return None


def serves(process: psutil.Process, root: Path) -> bool:
    """Tell whether a master runs from this checkout: all checkouts of a user share its state."""
    # Salt writes what the process is for behind its command line, which makes it one word.
    return f" -c {root} " in " ".join(process.cmdline())


def told_address(root: Path) -> str:
    """Return the address that servers are told to find the master at, or all addresses where it is not this machine's.

    Servers may know this machine by a name, or by the address of something in front of it.
    """
    providers = cluster_map.read_providers(root / "cloud.providers.d").good
    minions = [provider.get("minion") for provider in providers.values()]
    told = {minion.get("master") for minion in minions if isinstance(minion, dict)}
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return str((told & own or {"0.0.0.0"}).pop())  # noqa: S104 (keys decide who is let in)


@app.command()
def start(
    interface: Annotated[
        str, typer.Option(help="Address to listen on; by default the one in cloud.providers.d that servers are told.")
    ] = "",
    clouds_yaml: Annotated[
        Path | None, typer.Option(help="The OpenStack account; linked as clouds.yaml in the checkout.")
    ] = None,
) -> None:
    """Start the Salt master in the background; one that runs with other settings is restarted."""
    root, state = paths.root(), state_folder()
    interface = interface or told_address(root)
    if clouds_yaml:
        link_clouds(root, clouds_yaml)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    state.chmod(0o700)
    changed = configure(root, state, interface)
    process, digest, stamp = running(state), code_digest(root), state / "code.sha256"
    if process and serves(process, root) and not changed and stamp.is_file() and stamp.read_text() == digest:
        typer.echo("The Salt master is up.")
        return
    if process:
        typer.echo(
            "The Salt master is started anew, with what is in this checkout now."
            if serves(process, root)
            else "The Salt master runs from another checkout; this one takes over."
        )
    _stop(state)
    program = Path(sys.executable).with_name("salt-master")
    subprocess.run([program, "-c", root, "-d"], check=True, cwd=root)
    _await(state, interface)
    stamp.write_text(digest)
    typer.echo(f"The Salt master is up on {interface}; its keys and state are in {state}.")


@tenacity.retry(stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(0.3), reraise=True)
def _await(state: Path, interface: str) -> None:
    process = running(state)
    if process is None:
        raise RuntimeError(f"the Salt master does not start; see {state}/var/log/salt/master")
    ports = {
        connection.laddr.port
        for child in [process, *process.children(recursive=True)]
        for connection in child.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    if not {4505, 4506} <= ports:
        raise RuntimeError(f"the Salt master does not listen on {interface}; see {state}/var/log/salt/master")


@app.command("configure")
def write_configuration() -> None:
    """Write the Salt master's settings without starting it, so that salt-run and salt-cloud work."""
    root, state = paths.root(), state_folder()
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (root / CONFIGURATION).is_file():
        configure(root, state, told_address(root))


@app.command()
def stop() -> None:
    """Stop the Salt master, and the reconcilers that it started: nothing is done to any cluster any more."""
    _stop(state_folder())
    _kill_reconcilers(paths.root())


def _kill_reconcilers(root: Path, cluster: str | None = None) -> None:
    # They can be stopped at any point, and have children only while they ask something.
    for process in queue.reconcilers(str(root / "master"), cluster):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _stop(state: Path) -> None:
    process = running(state)
    if process is None:
        return
    family = [process, *process.children(recursive=True)]
    process.send_signal(signal.SIGTERM)
    _, left = psutil.wait_procs(family, timeout=15)
    for late in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            late.kill()


@app.command()
def forget(
    auth_url: Annotated[str, typer.Option(help="The identity API of a cloud that is gone for good.")],
) -> None:
    """Forget the clusters of a cloud that is gone; when no others are left the Salt master goes too, with its keys."""
    root, state = paths.root(), state_folder()
    gone, other = clusters(state, auth_url)
    for store in gone:
        _kill_reconcilers(root, store.cluster)
        shutil.rmtree(store.folder)
        typer.echo(f"Forgot cluster {store.cluster}: keys, kubeconfig, history.")
    if other:
        others = ", ".join(store.cluster for store in other)
        typer.echo(f"The Salt master stays, for what it keeps about {others} in {state}.")
        for file in (state / "etc" / "salt" / "pki" / "master" / "minions").glob("*"):
            node = names.parse(file.name)
            if node and node.cluster in {store.cluster for store in gone}:
                file.unlink()
        return
    _stop(state)
    backups = _remove_but_backups(state)
    # The settings stay, so that salt-run and salt-cloud say what is missing.
    if (root / "clouds.yaml").is_symlink():
        (root / "clouds.yaml").unlink()
    typer.echo("The Salt master is stopped; its keys and state are removed.")
    if backups:
        typer.echo(f"Backups stay, of clusters in other clouds perhaps too; remove {backups} when nobody needs them.")


def _remove_but_backups(state: Path) -> Path | None:
    """Remove the state; return the folder of the backups when there are any, which stay."""
    backups = state / BACKUPS
    if not (backups.is_dir() and any(backups.iterdir())):
        shutil.rmtree(state, ignore_errors=True)
        return None
    for path in state.iterdir():
        if path.is_dir() and not path.is_symlink() and path != backups:
            shutil.rmtree(path, ignore_errors=True)
        elif path != backups:
            path.unlink()
    return backups


def clusters(state: Path, auth_url: str) -> tuple[list[Store], list[Store]]:
    """Return what is kept about clusters: in the cloud with this identity API, or in none so far; and elsewhere."""
    auth_url = auth_url.rstrip("/")
    stores = [Store(state, folder.name) for folder in sorted((state / "managed_k8s").glob("*")) if folder.is_dir()]
    gone = [
        store
        for store in stores
        # Where it is was noted before anything was made for it.
        if (store.read(project_binding.FILE) or {"auth_url": auth_url})["auth_url"] == auth_url
    ]
    return gone, [store for store in stores if store not in gone]


_FILE = typer.Argument(help="The file; it opens everything, so keep it encrypted.", show_default=False)


@app.command("export")
def save(file: Annotated[Path, _FILE]) -> None:
    """Write keys, what is kept about clusters, and your settings to one file, for another machine."""
    with _explained():
        repositories = export.save(paths.root(), state_folder(), file)
    typer.echo(
        f"{file} has everything that this Salt master cannot make anew. Who has it has the clusters: encrypt it."
    )
    for repository in repositories:
        typer.echo(f"Not in it, copy it too: {repository}")


@app.command("import")
def load(file: Annotated[Path, _FILE]) -> None:
    """Put an export back on a new machine, into a checkout of the same tree; then: start."""
    with _explained():
        export.load(paths.root(), state_folder(), file)
    typer.echo(f"{state_folder()} is as it was. A local repository goes to where it was below it; then: start")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (export.PortableError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None


@app.command()
def status() -> None:
    """Say whether the Salt master runs; the exit code is 1 when it does not."""
    process = running(state_folder())
    typer.echo(f"The Salt master runs as process {process.pid}." if process else "The Salt master does not run.")
    raise typer.Exit(0 if process else 1)
