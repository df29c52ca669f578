from pathlib import Path

import pytest

from lab import apt, image
from lab.mirror import debian


def test_debian_sources_are_told_from_others_by_origin():
    text = (
        "Debian|bookworm|/etc/apt/sources.list.d/debian.sources:1\n"
        "Debian|bookworm-security|/etc/apt/sources.list.d/debian.sources:2\n"
        "Docker|bookworm|/etc/apt/sources.list.d/docker.list:1\n"
        "Debian|trixie|/etc/apt/trixie.list:1\n"
        "|bookworm|/etc/apt/sources.list:3\n"
        "Debian|bookworm-updates|/etc/apt/sources.list:4\n"
    )
    assert apt.parse_origins(text) == [Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources")]


def test_a_machine_without_debian_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr(apt, "run", lambda *command: "Ubuntu|noble|/etc/apt/sources.list.d/ubuntu.sources:1\n")
    with pytest.raises(apt.AptError, match=r"add one to /etc/apt/sources\.list\.d .* run apt-get update"):
        apt.source_files()


def test_package_list_is_read(tmp_path):
    path = tmp_path / "packages.list"
    path.write_text("# heading\n\nhaproxy  # balances\nlibstdc++6 # C++\n")
    assert apt.read_packages(path) == ["haproxy", "libstdc++6"]


def test_all_wrong_lines_of_a_package_list_are_named(tmp_path):
    path = tmp_path / "packages.list"
    path.write_text("haproxy jq # two\njq # JSON\njq # again\ncurl\n")
    with pytest.raises(apt.AptError) as caught:
        apt.read_packages(path)
    assert [line.partition(": ")[0].rpartition(":")[2] for line in str(caught.value).splitlines()] == ["1", "3", "4"]


@pytest.mark.parametrize("path", [image.PACKAGES, debian.PACKAGES])
def test_our_package_lists_are_right(path):
    assert len(apt.read_packages(path)) > 10
