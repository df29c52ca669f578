import dataclasses
import stat

import pytest
import yaml

from lab import apt
from lab.files import write
from lab.settings import Addresses, Settings
from lab.state import State


@pytest.fixture(autouse=True)
def sources(monkeypatch, tmp_path):
    file = tmp_path / "debian.sources"
    file.write_text("Suites: bookworm\n")
    monkeypatch.setattr(apt, "source_files", lambda: [file])


@pytest.fixture
def settings(tmp_path):
    return Settings(Addresses(), ("1.36.3",), tmp_path / "state", tmp_path / "cache")


def test_only_root_can_read_what_is_secret(settings):
    state = State(settings)
    state.make()
    assert stat.S_IMODE(settings.state.stat().st_mode) == 0o700
    for path in settings.state.iterdir():
        readable = {"ca.pem"}
        assert path.name in readable or stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_making_it_again_keeps_passwords_and_certificates(settings):
    State(settings).make()
    before = {path.name: path.read_text() for path in settings.state.iterdir()}
    State(settings).make()
    assert before == {path.name: path.read_text() for path in settings.state.iterdir()}
    assert len(set(State(settings).secrets.values())) == len(State(settings).secrets)


def test_the_customer_is_not_the_administrator(settings):
    state = State(settings)
    state.make()
    account = yaml.safe_load(state.clouds.read_text())["clouds"]["lab"]
    assert account["auth"]["username"] == "lab"
    assert account["auth"]["password"] != state.secrets["admin"]
    assert state.secrets["admin"] not in state.clouds.read_text()
    assert account["cacert"] == str(settings.state / "ca.pem")


def test_changed_inputs_are_named(settings):
    State(settings).make()
    assert State(settings).changed() == []
    moved = dataclasses.replace(settings, addresses=Addresses(external_network="172.20.0.0/24"))
    assert State(moved).changed() == ["external_network"]


def test_new_sources_change_the_packages(settings, sources, tmp_path):
    State(settings).make()
    (tmp_path / "debian.sources").write_text("Suites: bookworm bookworm-updates\n")
    assert State(settings).changed() == ["packages of the cloud"]


def test_written_file_replaces_one_that_others_could_read(tmp_path):
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
