"""What comes from Debian: the base layer of images that need more than one static program, and C libraries."""

from __future__ import annotations

import json
import shlex
import tarfile
from pathlib import Path

from lab import apt, rootfs
from lab.artifacts import oci
from lab.cache import Cache
from lab.progress import Report

# What kube-proxy, flannel and the Cinder CSI plugin call.
BASE_PACKAGES = (
    "ca-certificates",
    "conntrack",
    "e2fsprogs",
    "iproute2",
    "ipset",
    "iptables",
    "kmod",
    "mount",
    "nftables",
    "udev",
    "util-linux",
    "xfsprogs",
)
# Only maintainer scripts, xfs_scrub and xfs_scrub_all call these. python3 goes first: removing it runs Python.
_UNUSED = (
    ("python3",),
    (
        "libfile-find-rule-perl",
        "libicu72",
        "libnumber-compare-perl",
        "libperl5.36",
        "libpython3-stdlib",
        "libpython3.11-minimal",
        "libpython3.11-stdlib",
        "libtext-glob-perl",
        "perl",
        "perl-modules-5.36",
        "python3-minimal",
        "python3.11",
        "python3.11-minimal",
        "usrmerge",
    ),
)
# Logs and caches differ from run to run; the rest is of no use without a person or a package manager.
_REMOVED = (
    "etc/machine-id",
    "usr/lib/python3*",
    "usr/lib/systemd/catalog",
    "usr/lib/udev/hwdb.*",
    "usr/share/bash-completion",
    "usr/share/common-licenses",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/perl",
    "usr/share/zoneinfo",
    "var/cache/*",
    "var/lib/apt",
    "var/log/*",
)
_CERTIFICATES = "./etc/ssl/certs/ca-certificates.crt"
_LIBRARIES = ("libc6-dev", "libseccomp-dev")


def base(cache: Cache, report: Report) -> Path:
    """Return a folder with the Debian base layer, `packages.json` (name: version) and `ca-certificates.crt`."""

    def make(folder: Path) -> None:
        with report.step("Make the Debian base layer of images"):
            _make_base(folder, _log(cache))

    inputs = [Path(__file__), Path(oci.__file__), *apt.source_files()]
    return cache.entry("artifacts-debian", inputs, make)


def sysroot(cache: Cache, report: Report) -> Path:
    """Return a folder with the headers and static libraries that C code is compiled against."""

    def make(folder: Path) -> None:
        with report.step("Fetch the C libraries"):
            # variant extract: unpacked, nothing of it is run
            rootfs.bootstrap(folder / "root", _LIBRARIES, _log(cache), "--variant=extract")

    return cache.entry("artifacts-sysroot", [*_LIBRARIES, *apt.source_files()], make) / "root"


def _log(cache: Cache) -> Path:
    return cache.root / "logs" / "artifacts-debian.log"


def _make_base(folder: Path, log: Path) -> None:
    tar, packages = folder / "base.tar", folder / "packages"
    removed = " ".join(f'"$1"/{path}' for path in _REMOVED)
    rootfs.bootstrap(
        tar,
        BASE_PACKAGES,
        log,
        "--variant=essential",
        "--skip=output/dev",
        *(f'--customize-hook=chroot "$1" dpkg --purge --force-depends {" ".join(unused)}' for unused in _UNUSED),
        f'--customize-hook=chroot "$1" dpkg-query --show > {shlex.quote(str(packages))}',
        f"--customize-hook=rm -rf {removed}",
    )
    oci.compress(folder, tar)
    with tarfile.open(tar) as archive:
        certificates = archive.extractfile(_CERTIFICATES)
        assert certificates  # noqa: S101  a regular file
        (folder / "ca-certificates.crt").write_bytes(certificates.read())
    versions = dict(line.split("\t") for line in packages.read_text().splitlines())
    (folder / "packages.json").write_text(json.dumps(versions, indent=1, sort_keys=True) + "\n")
    tar.unlink()
    packages.unlink()
