"""Running a step of a plan: by the one function for its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from managed_k8s.config.settings import Settings
from managed_k8s.execute import bootstrap, healing, rollout, scaling
from managed_k8s.minions.jobs import Jobs
from managed_k8s.model.cluster import Snapshot
from managed_k8s.model.steps import Step
from managed_k8s.state.store import Store


class Cloud(bootstrap.Cloud, scaling.Cloud, healing.Cloud, Protocol):
    """What is asked of OpenStack."""


class Kube(bootstrap.Kube, scaling.Kube, rollout.Kube, Protocol):
    """What is done through the cluster's API."""


class Executor:
    """Runs the steps of one cluster.

    say: gets (subject, words) of progress within a step.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        cloud: Cloud,
        jobs: Jobs,
        kube: Kube,
        say: Callable[[str, str], None] = lambda subject, words: None,
    ) -> None:
        self._bootstrap = bootstrap.Bootstrap(store, settings, cloud, jobs, kube, say)
        # One for each kind in managed_k8s/model/steps.py.
        self.actions = {
            **self._bootstrap.actions(),
            **scaling.Turnover(store, settings, cloud, jobs, kube, say).actions(),
            **healing.Healing(store, cloud, jobs).actions(),
            **rollout.Rolling(store, settings, jobs, kube, say).actions(),
        }

    def run(self, step: Step, snapshot: Snapshot) -> None:
        """Run a step.

        snapshot: what the step was planned from. Raises StepError, JobError, or what cloud and API raise.
        """
        self.actions[step.kind](step.node, snapshot)

    def clean(self) -> None:
        """Remove what a reconciler that was killed left behind; to be called while the cluster's lock is held."""
        self._bootstrap.clean()
