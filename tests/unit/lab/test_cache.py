import threading

import pytest

from lab.cache import Cache, key


def test_key_depends_on_every_input_and_not_on_where_a_file_lies(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pins").write_text("1.36.3")
    one, two = tmp_path / "one", tmp_path / "two"
    assert key([one, "x"]) == key([two, "x"]) == key([two, "x"])
    assert key([one / "pins"]) == key([two / "pins"])
    assert len({key(["ab", "c"]), key(["a", "bc"]), key([b"ab", "c"]), key(["ab"])}) == 4
    (two / "pins").chmod(0o755)
    assert key([one / "pins"]) != key([two / "pins"])


def test_entry_is_made_once_by_two_at_a_time(tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "file").write_text("content")

    def ask():
        Cache(tmp_path).entry("rootfs", ["pin"], make)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (Cache(tmp_path).path("rootfs", ["pin"]) / "file").read_text() == "content"


def test_interrupted_build_is_not_taken_for_finished(tmp_path):
    def interrupted(folder):
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    cache = Cache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache.entry("rootfs", ["pin"], interrupted)
    assert not cache.path("rootfs", ["pin"]).exists()
    entry = cache.entry("rootfs", ["pin"], lambda folder: (folder / "whole").touch())
    assert [path.name for path in entry.iterdir()] == ["whole"]
