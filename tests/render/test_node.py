"""What a node forgets."""


def test_a_node_that_joins_anew_knows_no_range_of_pods_any_more(of, monkeypatch, tmp_path):
    node, ran = of("worker").node, []
    monkeypatch.setattr(node, "_CNI", tmp_path / "cni")
    monkeypatch.setattr(node, "_FLANNEL", tmp_path / "subnet.env")
    monkeypatch.setattr(node.subprocess, "run", lambda words, **options: ran.append(words))
    (node._CNI / "networks").mkdir(parents=True)
    node._FLANNEL.write_text("FLANNEL_SUBNET=10.244.6.1/24")
    assert node.forget_network()
    assert not node._CNI.exists()
    assert not node._FLANNEL.exists()
    assert [words[-1] for words in ran] == ["cni0", "flannel.1"]
