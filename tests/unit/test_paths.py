import shutil

import pytest

from managed_k8s import paths


@pytest.fixture
def tree(tmp_path):
    """What minions are made from, and what the Salt master alone uses, as in the checkout."""
    for folder in (*paths.TREES, "reactor"):
        shutil.copytree(paths.root() / folder, tmp_path / folder, symlinks=True)
    return tmp_path


def test_what_a_reactor_does_changes_no_server(tree):
    before = paths.tree_digest(tree)
    assert (tree / "salt" / "reactor" / "minion_start.sls").is_file(), "the Salt master finds it as salt://reactor/..."
    (tree / "reactor" / "minion_start.sls").write_text("")
    assert paths.tree_digest(tree) == before


@pytest.mark.parametrize("folder", paths.TREES)
def test_what_servers_are_made_from_changes_them(tree, folder):
    before = paths.tree_digest(tree)
    (tree / folder / "more.py").write_text("")
    assert paths.tree_digest(tree) != before
