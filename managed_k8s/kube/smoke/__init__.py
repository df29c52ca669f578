"""Smoke tests: a cluster does what its users need, end to end."""

from managed_k8s.kube.smoke.check import Check, FailedError
from managed_k8s.kube.smoke.run import run

__all__ = ["Check", "FailedError", "run"]
