"""Bringing the lab up and down."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from lab import artifacts, doctor, host, image, mirror
from lab.cache import Cache, key
from lab.cloud import bootstrap, configuration, health, packages, project
from lab.command import run, run_logged
from lab.faults import Faults
from lab.files import write
from lab.machine import Machine
from lab.progress import Report, Step
from lab.settings import KUBERNETES_VERSIONS, Settings
from lab.state import State

START = Path(__file__).parent / "cloud" / "start-machine"


class LabError(RuntimeError):
    """The lab cannot do what was asked; the message says what to do."""


class Lab:
    """One lab: its settings, state, cache and machine."""

    def __init__(self, settings: Settings, report: Report) -> None:
        self.settings = settings
        self.report = report
        self.state = State(settings)
        self.cache = Cache(settings.cache)
        self.machine = Machine(self.state.machine)
        self.faults = Faults(self.state, self.machine)
        self._ready = self.state.folder / "ready"
        self._configured = self.state.machine / "configured"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lab's lock: one command at a time changes it."""
        folder = self.settings.state.parent
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{self.settings.state.name}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            self.report.say("Waiting for another command that works on this lab")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    # Up

    @property
    def up_to_date(self) -> bool:
        """Whether it is up, and everything in it is made from what is asked for now."""
        with contextlib.suppress(OSError):
            return self.machine.leader is not None and self._ready.read_text() == self._wanted()
        return False

    def _wanted(self) -> str:
        """Return a digest of all inputs: the sources of the lab and the settings."""
        sources = [
            path for path in sorted(Path(__file__).parent.rglob("*")) if path.suffix != ".pyc" and path.is_file()
        ]
        return key([*sources, repr(self.settings), *packages.inputs()])

    def up(self, *, rebuild: bool = False) -> bool:
        """Bring it up; return whether anything had to be done.

        rebuild: drop a state that was made from other inputs, with the servers and volumes in it.
        Raises LabError.
        """
        if self.up_to_date:
            return False
        self._examine()
        with self._alone():
            if self.state.changed():
                self._rebuild(allowed=rebuild)
            self._install_host_packages()
            self.state.make()
            with concurrent.futures.ThreadPoolExecutor() as pool:
                # Compiling takes the processors; downloading and starting services fill the gaps.
                served = pool.submit(self._build_mirror)
                server_image = pool.submit(image.build, self.cache, self.report)
                fetched = pool.submit(self._fetch)
                self._start(packages.build(self.cache, self.report))
                self._await_services()
                cloud = bootstrap.connect(self.state.admin())
                with self.report.step("Prepare the customer's project"):
                    project.prepare(cloud, self.settings.addresses, self.state.secrets["user"])
                folder = server_image.result()
                with self.report.step("Upload the server image"):
                    project.upload_image(cloud, folder / "server.tar", folder.name)
                fetched.result()
                self._serve(served.result())
            write(self._ready, self._wanted())
        return True

    def _examine(self) -> None:
        problems = doctor.problems(self.settings)
        other = host.owner()
        if other not in (None, self.state.folder):
            problems.append(
                f"another lab is up, with its state in {other}: run `lab down` with the settings of that one"
            )
        if problems:
            lines = "\n".join(f"  - {problem}" for problem in problems)
            raise LabError(f"This machine cannot run the lab; nothing was changed:\n{lines}")

    def _rebuild(self, *, allowed: bool) -> None:
        names = ", ".join(self.state.changed())
        if not allowed:
            raise LabError(
                f"The lab in {self.state.folder} was made from other inputs: {names}. Its servers and volumes cannot "
                "be carried over. Either set these back, or start anew: lab up --rebuild"
            )
        self.report.say(f"Starting anew: {names} changed")
        self._down()
        self._remove_state()

    def _install_host_packages(self) -> None:
        missing = doctor.missing_packages()
        if missing:
            with self.report.step(f"Install on this machine: {' '.join(missing)}"):
                log = self.settings.cache / "logs" / "host-packages.log"
                env = {"DEBIAN_FRONTEND": "noninteractive"}
                run_logged("apt-get", "update", log=log, env=env)
                run_logged("apt-get", "install", "--yes", "--no-install-recommends", *missing, log=log, env=env)

    def _fetch(self) -> None:
        """Get what is downloaded rather than compiled, while the compiler has the processors."""
        mirror.fetch(self.cache, self.report)
        for version in self.settings.kubernetes:
            artifacts.fetch(self.cache, version, self.report)

    def _build_mirror(self) -> Path:
        built = {version: artifacts.build(self.cache, version, self.report) for version in self.settings.kubernetes}
        return mirror.build(self.cache, built, self.report)

    def _start(self, lower: Path) -> None:
        addresses, secrets = self.settings.addresses, self.state.secrets
        with self.report.step("Start the cloud's machine") as step:
            host.set_sysctls(self.state.sysctls)
            if not self._runs_as_configured(step):
                self._clean_up_after_machine()
                files = self.state.machine / "files"
                configuration.render(files, addresses, secrets)
                write(files / "etc/haproxy/endpoints.pem", self.state.certificate())
                mirrors = self.settings.cache / "mirror"
                mirrors.mkdir(parents=True, exist_ok=True)
                self.machine.start(START, lower, mirrors)
                write(self._configured, self._configuration())
            host.connect(addresses, self.state.folder)
        if not bootstrap.bootstrapped(self.machine):
            with self.report.step("Set OpenStack up") as step:
                bootstrap.bootstrap(self.machine, addresses, secrets, self.state.admin(), step)

    def _configuration(self) -> str:
        # Another version of Kubernetes is a matter of the mirror: no reason to start the machine and all servers anew.
        settings = dataclasses.replace(self.settings, kubernetes=KUBERNETES_VERSIONS[:1])
        return key([*configuration.sources(), START, repr(settings)])

    def _runs_as_configured(self, step: Step) -> bool:
        """Whether it runs with today's configuration; one that is half dead, or runs with another, is stopped."""
        with contextlib.suppress(OSError):
            if self.machine.leader is not None and self._configured.read_text() == self._configuration():
                return True
        if self.machine.process is not None:
            step.update("stop what was left running")
            self.machine.stop()
        return False

    def _await_services(self) -> None:
        """Wait until every endpoint answers and every agent and hypervisor is up."""
        with self.report.step("Wait for OpenStack's services") as step:
            health.wait(self.state.admin(), self.settings.addresses, step)
            bootstrap.discover_hypervisors(self.machine, self.settings.addresses)

    def export_mirror(self, target: Path) -> None:
        """Copy the mirror to a folder, for a site without internet; what is not built yet is built."""
        self._install_host_packages()
        mirror.export(self._build_mirror(), target)

    def _serve(self, folder: Path) -> None:
        self.machine.run("ln", "-sfn", f"mirrors/{folder.name}", "/srv/mirror")

    # Down

    def down(self) -> None:
        """Stop it and leave nothing of it on the host but its files."""
        with self._alone():
            self._down()

    def _down(self) -> None:
        self._ready.unlink(missing_ok=True)
        with self.report.step("Stop the cloud's machine"):
            if self.machine.leader is not None:
                self.faults.thaw_all()
            self.machine.stop()
        self._clean_up_after_machine()
        self.faults.forget_volatile()
        host.restore_sysctls(self.state.sysctls)

    def _clean_up_after_machine(self) -> None:
        host.kill_remains()
        host.detach_loop_devices(self.state.machine)
        host.remove_cgroups()

    def destroy(self, *, cache: bool = False) -> None:
        """Bring it down and remove its state; the cache as well when told."""
        with self._alone():
            self._down()
            with self.report.step(f"Remove {self.state.folder}"):
                self._remove_state()
            if cache:
                with self.report.step(f"Remove {self.settings.cache}"):
                    shutil.rmtree(self.settings.cache, ignore_errors=True)

    def _remove_state(self) -> None:
        if self.state.folder.exists():
            run("rm", "-rf", "--one-file-system", self.state.folder)

    # Status

    def status(self) -> dict[str, Any]:
        """Return what there is, for people and programs."""
        leader = self.machine.leader
        return {
            "up": leader is not None,
            "ready": self.up_to_date,
            "state": str(self.state.folder),
            "cache": str(self.settings.cache),
            "clouds": str(self.state.clouds),
            "api": self.settings.auth_url,
            "mirror": self.settings.mirror_url,
            "failed_units": self._failed_units() if leader else [],
        }

    def _failed_units(self) -> list[str]:
        listed = self.machine.run("systemctl", "--failed", "--plain", "--no-legend", check=False)
        return [line.split()[0] for line in listed.splitlines() if line.strip()]
