"""Published weights have names; they are in nobody's package."""

import pytest

from serenet.networks import published_weights
from serenet.networks.shipped import checkpoint_file


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SERENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def published(reference):
    return reference / "data/published/serenet_epoch-800.pth"


def test_the_list_tells_what_ships_and_what_does_not(serenet):
    outcome = serenet("weights")
    assert outcome.code == 0
    assert "serenet_nnum13: " in outcome.out
    assert "published-serenet: not fetched" in outcome.out


def test_weights_that_were_not_fetched_are_told(serenet, views_file, tmp_path):
    outcome = serenet(
        "reconstruct", views_file, "--checkpoint", "published-serenet", "--out", tmp_path / "out"
    )
    assert outcome.code == 2
    assert "run serenet weights get published-serenet" in outcome.error


def test_a_copy_serves_under_the_name(serenet, published):
    outcome = serenet("weights", "get", "published-serenet", "--source", published)
    assert outcome.code == 0
    assert "--checkpoint published-serenet" in outcome.out
    assert checkpoint_file("published-serenet").read_bytes() == published.read_bytes()
    assert str(checkpoint_file("published-serenet")) in serenet("weights").out


def test_a_file_of_that_name_comes_first(tmp_path):
    (tmp_path / "published-serenet").write_bytes(b"own")
    assert str(checkpoint_file("published-serenet")) == "published-serenet"


@pytest.mark.parametrize("name", ["published-twnet", "nothing"])
def test_what_cannot_be_had_is_one_line(serenet, name):
    outcome = serenet("weights", "get", name)
    assert (outcome.code, outcome.out) == (2, "")
    assert name in outcome.error


def test_without_a_network_the_page_is_told(serenet, monkeypatch):
    closed = "http://127.0.0.1:9/epoch-800.pth"
    entry = published_weights.PUBLISHED["published-serenet"]
    monkeypatch.setitem(
        published_weights.PUBLISHED,
        "published-serenet",
        published_weights.RemoteFile(
            entry.name, entry.file_name, entry.about, entry.page, entry.sha256, (closed,)
        ),
    )
    outcome = serenet("weights", "get", "published-serenet")
    assert outcome.code == 2
    assert f"by hand from {entry.page} and give it as --source epoch-800.pth" in outcome.error
