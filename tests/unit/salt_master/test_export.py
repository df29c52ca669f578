"""What a Salt master cannot make anew, from one machine to another."""

import io
import stat
import tarfile

import pytest
from typer.testing import CliRunner

from managed_k8s.salt_master import cli
from managed_k8s.salt_master import export as exporting
from managed_k8s.salt_master.export import PortableError
from managed_k8s.state.store import Store

# In the state: what comes along, and what does not.
KEPT = (
    "etc/salt/pki/master/master.pem", "etc/salt/pki/master/minions/demo-master-1", "managed_k8s/demo/ssh_key",
    "managed_k8s/demo/known_hosts/id", "managed_k8s/demo/history.jsonl", "managed_k8s_backups/demo/passphrase",
    "managed_k8s_backups/demo/repositories.json",
)  # fmt: skip
LEFT = (
    "master.pid", "var/cache/salt/master/jobs/x", "managed_k8s/demo/reconcile.lock", "managed_k8s/demo/backup.log",
    "managed_k8s/demo/etcd/0/etcd", "managed_k8s/demo/wakeups/1", "managed_k8s/demo/.state.json.x",
    "managed_k8s_backups/demo/borg/cache", "managed_k8s_backups/demo/repository/data/0/1",
)  # fmt: skip


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
        (folder / name).chmod(0o600)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def there(tmp_path):
    """A checkout and the state of its Salt master."""
    root, state = tmp_path / "checkout", tmp_path / "state"
    put(
        root,
        "cluster.map",
        "pillar/clusters/demo.sls",
        "cloud.providers.d/openstack.conf",
        "managed_k8s/names.py",
    )
    put(tmp_path, "clouds.yaml")
    (root / "clouds.yaml").symlink_to(tmp_path / "clouds.yaml")
    put(state, *KEPT, *LEFT)
    return root, state


@pytest.fixture
def export(there, tmp_path):
    file = tmp_path / "export.tar.gz"
    assert exporting.save(*there, file) == [there[1] / "managed_k8s_backups" / "demo" / "repository"]
    return file


def test_another_machine_has_all_that_cannot_be_made_anew(export, tmp_path):
    root, state = tmp_path / "new" / "checkout", tmp_path / "new" / "state"
    put(root, "cluster.map", "managed_k8s/names.py")
    (root / "cluster.map").write_text("the example")
    exporting.load(root, state, export)
    assert files(state) == set(KEPT)
    assert files(root) == {
        "cluster.map", "clouds.yaml", "pillar/clusters/demo.sls", "cloud.providers.d/openstack.conf",
        "managed_k8s/names.py",
    }  # fmt: skip
    assert (root / "cluster.map").read_text() == "cluster.map"
    assert not (root / "clouds.yaml").is_symlink()
    assert Store(state, "demo", "managed_k8s_backups").read_text("passphrase") == "managed_k8s_backups/demo/passphrase"
    readable = [path for path in state.rglob("*") if path.stat().st_mode & 0o077]
    assert readable == []


def test_only_its_owner_can_read_it_and_nothing_half_written_stays(there, export):
    assert stat.S_IMODE(export.stat().st_mode) == 0o600
    with pytest.raises(PortableError, match="no Salt master's state"):
        exporting.save(there[0], there[0], export.with_name("other"))
    assert [path.name for path in export.parent.iterdir() if "other" in path.name or path.name.startswith(".")] == []


def test_state_that_is_there_is_not_overwritten(there, export):
    before = files(there[1])
    with pytest.raises(PortableError, match="move it away"):
        exporting.load(*there, export)
    assert files(there[1]) == before


@pytest.mark.parametrize("content", [b"no archive", None])
def test_what_is_no_export_changes_nothing(tmp_path, content):
    file = tmp_path / "x"
    if content is None:
        with tarfile.open(file, "w") as tar:
            tar.addfile(tarfile.TarInfo("something"))
    else:
        file.write_bytes(content)
    with pytest.raises(PortableError):
        exporting.load(tmp_path / "root", tmp_path / "state", file)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("name", ["state/../../evil", "checkout/../evil", "state//../evil"])
def test_nothing_in_it_leads_out(tmp_path, name):
    file = tmp_path / "in" / "x"
    file.parent.mkdir()
    with tarfile.open(file, "w") as tar:
        for called in ("state/etc/x", name):
            entry = tarfile.TarInfo(called)
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
    (tmp_path / "out" / "root").mkdir(parents=True)
    with pytest.raises(PortableError):
        exporting.load(tmp_path / "out" / "root", tmp_path / "out" / "state", file)
    assert not list(tmp_path.rglob("evil"))


def test_commands_say_what_is_not_in_it_and_what_is_wrong(there, tmp_path, monkeypatch):
    root, state = there
    monkeypatch.setattr(cli.paths, "root", lambda: root)
    monkeypatch.setattr(cli, "state_folder", lambda: state)
    made = CliRunner().invoke(cli.app, ["export", str(tmp_path / "x")])
    assert made.exit_code == 0
    assert f"copy it too: {state}/managed_k8s_backups/demo/repository" in made.output.replace("\n", "")
    refused = CliRunner().invoke(cli.app, ["import", str(tmp_path / "x")])
    assert refused.exit_code == 1
    missing = CliRunner().invoke(cli.app, ["export", str(tmp_path / "no" / "x")])
    assert missing.exit_code == 1
