import json

import pytest

from lab.faults import KINDS, FaultError, Faults
from lab.machine import Machine
from lab.servers import ServerError, find
from lab.settings import Addresses, Settings
from lab.state import State


class Recorder(Machine):
    """A machine that notes what it is asked to run."""

    def __init__(self, state, commands):
        super().__init__(state)
        self.commands = commands

    def run(self, *command, stdin=None, check=True, timeout=None):
        self.commands.append(" ".join(command))
        return ""


@pytest.fixture
def commands():
    return []


@pytest.fixture
def faults(tmp_path, commands):
    settings = Settings(Addresses(), ("1.36.3",), tmp_path, tmp_path / "cache")
    for identity, name in (("id-1", "web"), ("id-2", "db"), ("id-3", "db")):
        folder = tmp_path / "machine/data/nova/hv1/instances" / identity
        folder.mkdir(parents=True)
        (folder / "server.json").write_text(json.dumps({"display_name": name, "namespace": f"server-{identity}"}))
    return Faults(State(settings), Recorder(tmp_path / "machine", commands))


def test_a_server_is_found_by_id_and_by_a_name_that_only_it_has(faults):
    assert find(faults.machine, "id-2").name == "db"
    assert find(faults.machine, "web").id == "id-1"
    with pytest.raises(ServerError, match="db: the name of 2 servers; use one of the ids id-2, id-3"):
        find(faults.machine, "db")
    with pytest.raises(ServerError, match="nope: no such server; there are web, db, db"):
        find(faults.machine, "nope")


def test_a_fault_is_listed_until_it_is_undone_by_name(faults, commands):
    faults.make("cut", "web")
    faults.make("stop-service", "nova-api")
    assert [(fault.name, fault.label) for fault in faults.in_force()] == [("cut", "web"), ("stop-service", "nova-api")]
    faults.undo("cut", "web")
    assert [fault.name for fault in faults.in_force()] == ["stop-service"]
    assert commands[-1].endswith("/id-1 forwarding")
    with pytest.raises(FaultError, match="cut web: no such fault is in force; there are: stop-service nova-api"):
        faults.undo("cut", "web")


def test_clear_undoes_all_the_latest_first(faults, commands):
    faults.make("cut", "web")
    faults.make("stop-service", "nova-api")
    assert [fault.name for fault in faults.clear()] == ["stop-service", "cut"]
    assert commands[-2] == "systemctl start nova-api"
    assert faults.in_force() == []


def test_a_fault_is_noted_before_it_is_made(faults, monkeypatch):
    def killed(*command, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(faults.machine, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        faults.make("fill-disk", "web")
    assert [fault.name for fault in faults.in_force()] == ["fill-disk"]


def test_making_one_twice_notes_it_once(faults):
    faults.make("cut", "web")
    faults.make("cut", "id-1")
    assert len(faults.in_force()) == 1


def test_undoing_a_fault_of_a_server_that_is_gone_is_no_error(faults, tmp_path, commands):
    faults.make("freeze", "web")
    (tmp_path / "machine/data/nova/hv1/instances/id-1/server.json").unlink()
    faults.undo("freeze")
    assert faults.in_force() == []


def test_a_server_that_runs_again_is_not_powered_on_a_second_time(faults, monkeypatch):
    faults.make("power-loss", "web")
    monkeypatch.setattr(faults.machine, "run", lambda *command, **options: "4711\n")
    monkeypatch.setattr("lab.faults.connect", lambda account: pytest.fail("Nova is asked"))
    faults.undo("power-loss")
    assert faults.in_force() == []


def test_only_what_is_on_a_disk_outlasts_the_lab_going_down(faults):
    for name, target in (("cut", "web"), ("fill-disk", "web"), ("stop-service", "mariadb")):
        faults.make(name, target)
    faults.forget_volatile()
    assert [fault.name for fault in faults.in_force()] == ["fill-disk"]


def test_targets_that_do_not_exist_are_named_with_those_that_do(faults):
    with pytest.raises(FaultError, match="foo: no service of the lab; there are keystone"):
        faults.make("stop-service", "foo")
    with pytest.raises(FaultError, match="foo: no endpoint of the lab; there are keystone, glance"):
        faults.make("api-error", "foo", rate=1)
    assert faults.in_force() == []


def test_endpoints_go_by_service_and_by_type(faults):
    assert KINDS["api-error"].resolve(faults, "nova") == KINDS["api-error"].resolve(faults, "compute") == "compute"
