"""Every state renders for every role and situation, and hangs together."""

import re

import pytest
import yaml

from tests.render.conftest import CASES, TREE, Tree

REQUISITES = {"require", "require_in", "watch", "watch_in", "onchanges", "onchanges_in"}


def declarations(states):
    """Return (state id, module, arguments) of every declaration."""
    for identity, modules in states.items():
        for function, arguments in modules.items():
            merged: dict[str, object] = {}
            for argument in arguments or []:
                merged |= argument if isinstance(argument, dict) else {argument: None}
            yield identity, function.partition(".")[0], merged


def test_every_requisite_is_there(tree):
    known = {(module, identity) for identity, module, _ in declarations(tree.states())}
    for identity, _, arguments in declarations(tree.states()):
        for requisite in REQUISITES & arguments.keys():
            for wanted in arguments[requisite]:
                assert next(iter(wanted.items())) in known, f"{identity}: {requisite} {wanted}"


def test_every_source_is_there(tree):
    for identity, _, arguments in declarations(tree.states()):
        source = arguments.get("source", "")
        if source.startswith("salt://"):
            assert (TREE / source.removeprefix("salt://")).is_file(), identity
            context = arguments.get("context", {})
            if arguments.get("template") == "jinja":
                assert tree.render(source.removeprefix("salt://"), **context)


def test_the_revision_is_noted_last(tree):
    last = [arguments for _, _, arguments in declarations(tree.states()) if arguments.get("order") == "last"]
    assert last[0]["name"] == "/etc/managed-k8s/revision"
    # What comes even after that follows from it.
    assert all(arguments["onchanges"] == [{"file": "Note what this server was made from"}] for arguments in last[1:])


def test_states_are_sentences(tree):
    assert all(re.fullmatch(r"[A-Z][\w'-]* .+[^.]", identity) for identity in tree.states())


def test_nothing_secret_is_shown_or_readable(tree):
    for identity, module, arguments in declarations(tree.states()):
        if module == "file" and "encryption" in str(arguments.get("source", "")):
            assert arguments["mode"] == "0600", identity
            assert arguments["show_changes"] is False, identity


def test_every_file_of_the_tree_is_used():
    used = {"top.sls"}
    for case in CASES:
        tree = Tree(case)
        used |= set(tree.included(case.role, []))
        for _, _, arguments in declarations(tree.states()):
            used.add(arguments.get("source", "").removeprefix("salt://"))
    files = {str(path.relative_to(TREE)) for path in TREE.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("_")} - used == set()


def test_top_gives_every_role_its_states(of):
    top = yaml.safe_load(of("worker").render("top.sls"))
    assert top["base"] == {f"*-{role}-*": [role] for role in ("gateway", "master", "worker")}


@pytest.mark.parametrize("there", [False, True])
def test_extensions_are_synced_unless_they_are_there(of, there):
    tree = of("worker")
    tree.facts.has_extensions = lambda: there
    tree.render("top.sls")
    assert tree.synced == ([] if there else ["utils", "modules", "states", "beacons"])


@pytest.mark.parametrize("role", ["master", "worker"])
def test_programs_come_with_their_digests(of, role):
    states = of(role).states()
    files = {
        name: digest
        for identity, module, arguments in declarations(states)
        if module == "managed_k8s_artifact"
        for name, digest in (arguments.get("files") or {}).items()
    }
    assert {"bin/kubelet", "bin/kubeadm", "bin/containerd", "bin/runc", "cni/flannel"} == files.keys()


@pytest.mark.parametrize("role", ["master", "worker"])
def test_what_is_to_come_is_put_beside_what_runs(of, role):
    """Of the version to come kubeadm and images alone, and kubeadm where nobody takes it for the one that runs."""
    states = list(declarations(of(role, upcoming="1.37.2").states()))
    new = {identity: arguments for identity, _, arguments in states if "1.37.2" in str(arguments.get("base", ""))}
    assert len(new) == 2
    (files,) = [arguments for arguments in new.values() if "files" in arguments]
    assert (set(files["files"]), files["folder"]) == ({"bin/kubeadm"}, "/usr/local/lib/managed-k8s/upcoming")
    assert not [identity for identity, _, _ in declarations(of(role).states()) if "to come" in identity]
