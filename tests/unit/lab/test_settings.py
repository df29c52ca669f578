import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.settings import Addresses, Settings, SettingsError, load, parse


def test_defaults(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative is ignored")
    settings = load()
    assert settings.addresses == Addresses()
    assert settings.kubernetes == ("1.36.3",)
    assert settings.state == Path("/state/managed-k8s/lab")
    assert settings.cache == Path.home() / ".cache/managed-k8s/lab"
    assert settings.mirror_url == "http://10.77.0.10"


def test_file_is_read(tmp_path):
    file = tmp_path / "lab.toml"
    file.write_text('kubernetes = ["1.37.2"]\nstate = "/srv/lab"\n[addresses]\nexternal_network = "172.20.0.0/16"\n')
    settings = load(file)
    assert settings.kubernetes == ("1.37.2",)
    assert settings.state == Path("/srv/lab")
    assert str(settings.addresses.external_gateway) == "172.20.0.1"


def test_all_problems_come_in_one_message():
    wrong = {
        "addresses": {
            "api_network": "10.77.0.1/24",
            "underlay_network": "8.8.8.0/24",
            "external_network": "8.8.0.0/16",
            "extra": "10.0.0.0/24",
        },
        "kubernetes": ["1.20.0"],
        "state": "relative",
        "colour": "red",
    }
    with pytest.raises(SettingsError) as raised:
        parse(wrong, "lab.toml")
    text = str(raised.value)
    for part in (
        "addresses.api_network: '10.77.0.1/24'",
        "addresses.underlay_network: 8.8.8.0/24 must be",
        "addresses.external_network: 8.8.0.0/16 overlaps",
        "addresses.extra: no such",
        "kubernetes: ['1.20.0'] must be",
        "state: 'relative' must be",
        "colour: no such setting",
    ):
        assert part in text


def test_file_that_is_not_toml(tmp_path):
    file = tmp_path / "lab.toml"
    file.write_text("addresses = [")
    with pytest.raises(SettingsError, match="not TOML"):
        load(file)


values = st.none() | st.booleans() | st.integers() | st.text(max_size=9)
json_values = values | st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=9), values, max_size=3)


@given(st.dictionaries(st.sampled_from(["addresses", "kubernetes", "state", "cache", "other"]), json_values))
def test_whatever_is_given_is_settings_or_one_error(given_keys):
    with contextlib.suppress(SettingsError):
        assert isinstance(parse(given_keys, "lab.toml"), Settings)
