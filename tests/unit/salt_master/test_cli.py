import pytest

from managed_k8s import paths
from managed_k8s.openstack import project_binding
from managed_k8s.openstack.connection import CloudError
from managed_k8s.salt_master import cli
from managed_k8s.state.store import BACKUPS, Store

LAB = "https://10.77.0.10:5000/v3"


class Conn:
    """As much of a connection as tells which project it leads to."""

    def __init__(self, project_id, auth_url=f"{LAB}/"):
        self.current_project_id = project_id
        self.config = self
        self._auth_url = auth_url

    def get_auth_args(self):
        return {"auth_url": self._auth_url}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "demo")


def test_a_cluster_stays_in_the_project_that_it_was_made_in(store):
    project_binding.claim(Conn("p1"), store)
    project_binding.claim(Conn("p1", "https://renamed:5000/v3"), store)
    assert store.read(project_binding.FILE)["auth_url"] == "https://renamed:5000/v3"
    with pytest.raises(CloudError) as raised:
        project_binding.claim(Conn("p2"), store)
    for word in ("p1", "p2", "clouds.yaml", "salt-run managed_k8s.destroy demo"):
        assert word in str(raised.value)
    assert store.read(project_binding.FILE)["project_id"] == "p1"


def test_tells_when_what_is_kept_is_of_another_project(store):
    assert project_binding.is_elsewhere(Conn("p1"), store) is None
    project_binding.claim(Conn("p1"), store)
    assert project_binding.is_elsewhere(Conn("p1"), store) is None
    assert (project_binding.is_elsewhere(Conn("p2"), store) or {})["project_id"] == "p1"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A Salt master's state, and a checkout."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    root = tmp_path / "checkout"
    (root / "master.d").mkdir(parents=True)
    (root / cli.CONFIGURATION).write_text("")
    (root / "clouds.yaml").symlink_to("/nowhere")
    monkeypatch.setattr(paths, "root", lambda opts=None: root)
    state = cli.state_folder()
    minions = state / "etc" / "salt" / "pki" / "master" / "minions"
    minions.mkdir(parents=True)
    for name in ("demo-master-1", "demo-x-worker-1", "other-worker-1"):
        (minions / name).write_text("key")
    return state


def keep(state, cluster, auth_url=None):
    made = Store(state, cluster)
    made.write("initialised.json", {"master": f"{cluster}-master-1", "finished": True})
    if auth_url:
        made.write(project_binding.FILE, {"project_id": "p", "auth_url": auth_url})
    return made


def test_forgetting_a_cloud_takes_the_salt_master_with_it(folder):
    keep(folder, "demo", LAB)
    keep(folder, "begun-and-nothing-made")
    cli.forget(LAB + "/")
    assert not folder.exists()
    assert (paths.root() / cli.CONFIGURATION).exists()
    assert not (paths.root() / "clouds.yaml").is_symlink()
    cli.forget(LAB)


def test_forgetting_a_cloud_never_takes_backups(folder, capsys):
    keep(folder, "demo", LAB)
    vault = Store(folder, "demo", BACKUPS)
    vault.write_text("passphrase", "secret")
    cli.forget(LAB)
    assert [path.name for path in folder.iterdir()] == [BACKUPS]
    assert vault.read_text("passphrase") == "secret"
    assert str(folder / BACKUPS) in capsys.readouterr().out.replace("\n", "")


def test_forgetting_a_cloud_keeps_what_is_in_another(folder, capsys):
    keep(folder, "demo", LAB)
    other = keep(folder, "other", "https://real:5000/v3")
    cli.forget(LAB)
    assert not (folder / "managed_k8s" / "demo").exists()
    assert other.read("initialised.json")
    left = {file.name for file in (folder / "etc" / "salt" / "pki" / "master" / "minions").iterdir()}
    assert left == {"demo-x-worker-1", "other-worker-1"}
    assert (paths.root() / cli.CONFIGURATION).exists()
    assert "stays, for what it keeps about other" in capsys.readouterr().out


def test_code_that_the_salt_master_loaded_is_told_from_newer_code(tmp_path):
    for name in ("master.d/managed-k8s.conf", "managed_k8s/plan.py", "_runners/managed_k8s.py", "docs/x.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    before = cli.code_digest(tmp_path)
    (tmp_path / "docs" / "x.md").write_text("newer")
    assert cli.code_digest(tmp_path) == before
    (tmp_path / "managed_k8s" / "plan.py").write_text("newer")
    assert cli.code_digest(tmp_path) != before
