"""Real zstd."""

import pytest

from managed_k8s import zstandard
from tests.unit.backups import zstd

CONTENT = b"a page of a database" * 9999


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "piece"
    made.write_bytes(zstd(CONTENT))
    return made


def test_gives_what_was_packed(file):
    assert file.read_bytes().startswith(zstandard.MAGIC)
    assert zstandard.unpacked(file, len(CONTENT)) == CONTENT
    with zstandard.unpacking(file) as content:
        assert content.read() == CONTENT


def test_half_of_a_file_and_a_damaged_one_are_nothing(file):
    packed = file.read_bytes()
    for length in (0, 1, len(packed) // 2, len(packed) - 1):
        file.write_bytes(packed[:length])
        assert zstandard.unpacked(file, len(CONTENT)) is None
    middle = len(packed) // 2
    file.write_bytes(packed[:middle] + bytes([packed[middle] ^ 1]) + packed[middle + 1 :])
    assert zstandard.unpacked(file, len(CONTENT)) is None


def test_no_more_is_unpacked_than_was_asked_for(file):
    assert zstandard.unpacked(file, len(CONTENT) - 1) is None


def test_says_what_is_missing(file, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(zstandard.ZstandardError, match="apt-get install zstd"):
        zstandard.unpacked(file, 1)
