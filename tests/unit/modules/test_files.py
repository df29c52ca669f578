"""Files for people who log in on a node."""

from types import SimpleNamespace

import pytest

from tests.support.minion_modules import load_module


@pytest.fixture
def module():
    return load_module("managed_k8s_files", {})


def test_files_are_written_once_for_whom_the_folder_is(module, tmp_path):
    folder, files = str(tmp_path / "resources"), {"README": "read me\n", "bin/smoke": "#!/bin/sh\n"}
    assert module.put(folder, files) == ["README", "bin/smoke"]
    assert module.put(folder, files) == []
    assert (tmp_path / "resources/bin/smoke").stat().st_mode & 0o777 == 0o755
    assert {path.owner() for path in (tmp_path / "resources").rglob("*")} == {tmp_path.owner()}


def test_the_first_ordinary_user_is_the_images(module, monkeypatch):
    users = [("root", 0), ("nobody", 65534), ("later", 1001), ("debian", 1000)]
    found = [SimpleNamespace(pw_uid=number, pw_dir=f"/home/{name}") for name, number in users]
    monkeypatch.setattr(module.pwd, "getpwall", lambda: found)
    assert module.default_home() == "/home/debian"
    monkeypatch.setattr(module.pwd, "getpwall", lambda: found[:2])
    assert module.default_home() == "/root"
