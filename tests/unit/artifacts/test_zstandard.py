"""Real zstd."""

import random

import pytest

from managed_k8s.artifacts import zstandard
from tests.support.backups import zstd

CONTENT = b"a page of a database" * 9999


PACKED = zstd(CONTENT)


def cut(content, length=10):
    return [content[start : start + length] for start in range(0, len(content), length)]


def unpacked(pieces):
    return b"".join(zstandard.unpacked(pieces))


def test_gives_what_was_packed(tmp_path):
    assert PACKED.startswith(zstandard.MAGIC)
    assert unpacked(cut(PACKED)) == CONTENT
    file = tmp_path / "file"
    file.write_bytes(PACKED)
    with zstandard.unpacking(file) as content:
        assert content.read() == CONTENT


def test_gives_it_in_blocks_before_the_last_piece_came():
    content = random.Random(1).randbytes(9 << 20)
    pieces, given = iter(cut(zstd(content), 1 << 20)), []
    blocks = zstandard.unpacked(given.append(piece) or piece for piece in pieces)
    first = next(blocks)
    assert 0 < len(first) <= 1 << 20
    assert len(given) < 9
    assert first + b"".join(blocks) == content


def test_half_of_it_and_what_is_damaged_is_an_error():
    for length in (1, len(PACKED) // 2, len(PACKED) - 1):
        with pytest.raises(zstandard.DamagedError, match="not whole"):
            unpacked(cut(PACKED[:length]))
    middle = len(PACKED) // 2
    damaged = PACKED[:middle] + bytes([PACKED[middle] ^ 1]) + PACKED[middle + 1 :]
    with pytest.raises(zstandard.DamagedError, match="damaged"):
        unpacked(cut(damaged))


def test_what_ends_the_pieces_is_said_and_not_that_they_are_not_whole():
    def pieces():
        yield PACKED[:20]
        raise ValueError("the line is cut")

    with pytest.raises(ValueError, match="the line is cut"):
        unpacked(pieces())


def test_who_wants_no_more_waits_for_nothing():
    content = random.Random(1).randbytes(9 << 20)
    blocks = zstandard.unpacked(cut(zstd(content), 1 << 20))
    next(blocks)
    blocks.close()


def test_says_what_is_missing(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(zstandard.ZstandardError, match="apt-get install zstd"):
        unpacked([])
