"""Smoke-tests the cluster made by hand, with the very test that ours has to pass: by_hand_smoke KUBECONFIG."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.by_hand_addons import SETTINGS
from managed_k8s.kube import client, smoke


def main(kubeconfig: str) -> None:
    """Print each check as it ends; the exit code is 1 when one failed."""

    def report(check: smoke.Check) -> None:
        print(f"{'ok    ' if check.ok else 'FAILED'} {check.name} ({check.seconds:.1f} s) {check.detail}", flush=True)

    checks = smoke.run(client.connect(Path(kubeconfig)), SETTINGS, report)
    raise SystemExit(0 if all(check.ok for check in checks) else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
