import hashlib
import html.parser
import re
import subprocess
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from lab import files, mirror
from lab.cache import Cache
from lab.mirror import debian, pypi, salt
from lab.progress import Report

WHEELS = ("Jinja2-3.1.6-py3-none-any.whl", "zc_lockfile-4.0-py3-none-any.whl")


class LinkParser(html.parser.HTMLParser):
    found: list[str]

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if (tag, name) == ("a", "href")]


def links(page: Path) -> list[str]:
    parser = LinkParser()
    parser.found = []
    parser.feed(page.read_text())
    return parser.found


@pytest.fixture
def index(tmp_path):
    (tmp_path / "packages").mkdir()
    for wheel in WHEELS:
        (tmp_path / "packages" / wheel).write_text(wheel)
    pypi.write_index(tmp_path)
    return tmp_path


def test_index_leads_to_every_wheel_by_its_normalized_name(index):
    projects = links(index / "simple/index.html")
    assert projects == ["jinja2/", "zc-lockfile/"]
    for project, wheel in zip(projects, WHEELS, strict=True):
        page = index / "simple" / project / "index.html"
        target, _, digest = links(page)[0].partition("#sha256=")
        assert (page.parent / target).resolve() == index / "packages" / wheel
        assert digest == hashlib.sha256(wheel.encode()).hexdigest()


def test_served_lock_has_the_hashes_of_what_is_served(index):
    digest = hashlib.sha256(WHEELS[0].encode()).hexdigest()
    assert f"jinja2==3.1.6 --hash=sha256:{digest}\n" in (index / "requirements.lock").read_text()


@pytest.mark.parametrize(
    ("wheel", "fits"),
    [
        ("salt-3008.3-py3-none-any.whl", True),
        ("timelib-0.3.0-cp311-cp311-linux_x86_64.whl", True),
        ("cryptography-50.0.2-cp311-abi3-manylinux_2_34_x86_64.whl", True),
        ("psutil-7.2.2-cp36-abi3-manylinux2010_x86_64.manylinux_2_12_x86_64.whl", True),
        ("pyyaml-6.0.3-cp312-cp312-manylinux_2_28_x86_64.whl", False),
        ("pyyaml-6.0.3-cp311-cp311-manylinux_2_39_x86_64.whl", False),
        ("pyyaml-6.0.3-cp311-cp311-manylinux_2_28_aarch64.whl", False),
    ],
)
def test_only_wheels_for_the_servers_python_fit(wheel, fits):
    assert [wheel in problem for problem in pypi.unfit([wheel])] == ([] if fits else [True])


def test_locks_pin_everything_by_hash_and_name_no_index():
    for folder, name in ((pypi.LOCK.parent, "servers"), (pypi.BUILD.parent, "build")):
        wanted = set((folder / f"{name}.in").read_text().split("\n"))
        text = (folder / f"{name}.lock").read_text()
        pinned = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))
        assert {re.split("==", line)[0] for line in wanted if line and line[0] != "#"} <= pinned.keys()
        assert all(name == canonicalize_name(name) for name in pinned)
        assert "://" not in text
        assert len(re.findall(r"^\S+==.*\\\n    --hash=sha256:", text, re.MULTILINE)) == len(pinned)
    assert "salt==3008.3 " in pypi.LOCK.read_text()


def test_release_vouches_for_the_index(tmp_path):
    debian.write_index(tmp_path, ["Package: a\n", "Package: b\n"])
    dists = tmp_path / "dists/bookworm"
    data = (dists / "main/binary-amd64/Packages").read_bytes()
    assert data == b"Package: a\n\nPackage: b\n"
    release = (dists / "Release").read_text()
    assert f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/Packages\n" in release
    assert re.search(r"^Date: \w{3}, \d\d \w{3} \d{4} [\d:]{8} UTC$", release, re.MULTILINE)
    assert "Codename: bookworm\n" in release


def test_sums_cover_all_files_and_check(tmp_path):
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian/a").write_text("a")
    (tmp_path / "b").write_text("b")
    files.write_sums(tmp_path, files.sums(tmp_path))
    files.write_sums(tmp_path, files.sums(tmp_path))
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["b: OK", "debian/a: OK"]


def test_mirror_is_put_together_and_follows_changed_artifacts(tmp_path, monkeypatch):
    parts = {name: tmp_path / name for name in ("debian", "pypi", "salt", "key", "kubernetes")}
    for name, folder in parts.items():
        folder.mkdir()
        (folder / "SHA256SUMS").write_text(name)
    monkeypatch.setattr(debian, "build", lambda cache, report: parts["debian"])
    monkeypatch.setattr(pypi, "build", lambda cache, report: parts["pypi"])
    monkeypatch.setattr(salt, "build", lambda cache, packages, report: parts["salt"])
    monkeypatch.setattr(mirror.signing, "key", lambda cache: parts["key"])
    monkeypatch.setattr(mirror.signing, "detach_sign", lambda key, source, target: target.write_text("signed"))

    def build() -> Path:
        return mirror.build(Cache(tmp_path / "cache"), {"1.36.3": parts["kubernetes"]}, Report())

    first = build()
    assert (first / "kubernetes/1.36.3/SHA256SUMS").read_text() == "kubernetes"
    assert (first / "debian/SHA256SUMS").stat().st_ino == (parts["debian"] / "SHA256SUMS").stat().st_ino
    assert (first / "SHA256SUMS.gpg").read_text() == "signed"
    assert build() == first
    (parts["kubernetes"] / "SHA256SUMS").unlink()
    (parts["kubernetes"] / "SHA256SUMS").write_text("other")
    assert build() != first


def test_export_is_a_copy_of_its_own_and_never_mixes(tmp_path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/a").write_text("a")
    mirror.export(tmp_path / "mirror", tmp_path / "site")
    assert (tmp_path / "site/a").read_text() == "a"
    assert (tmp_path / "site/a").stat().st_nlink == 1
    with pytest.raises(FileExistsError, match="not empty"):
        mirror.export(tmp_path / "mirror", tmp_path / "site")
