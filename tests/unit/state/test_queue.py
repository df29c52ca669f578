"""Processes of our own, and what they print."""

from managed_k8s.state import queue
from managed_k8s.state.store import Store


def test_a_log_that_grew_long_takes_the_place_of_the_one_before(tmp_path, monkeypatch):
    store = Store(tmp_path, "demo")
    monkeypatch.setattr(queue, "_LONG", 10)
    log = queue._log(store, "insight")
    log.write_text("short")
    assert queue._log(store, "insight").read_text() == "short"
    for text in ("the first long one", "the second long one"):
        log.write_text(text)
        assert not queue._log(store, "insight").exists()
    assert {path.name: path.read_text() for path in store.folder.iterdir()} == {
        "insight.log.old": "the second long one"
    }
