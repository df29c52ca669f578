"""What makes the lab start its machine anew."""

import dataclasses
from typing import Any

from lab.lifecycle import Lab
from lab.settings import KUBERNETES_VERSIONS, Addresses, Settings


def test_another_version_of_kubernetes_does_not_start_the_machine_anew(tmp_path):
    settings = Settings(Addresses(), KUBERNETES_VERSIONS[:1], tmp_path / "state", tmp_path / "cache")
    report: Any = None

    def configuration(**changes):
        return Lab(dataclasses.replace(settings, **changes), report)._configuration()

    assert configuration() == configuration(kubernetes=KUBERNETES_VERSIONS)
    assert configuration() != configuration(addresses=Addresses(api_network="10.79.0.0/24"))
