import pytest

from scopekit.errors import UserError
from scopekit.settings import read_yaml, write_yaml


def test_round_trip_keeps_the_order(tmp_path):
    path = tmp_path / "settings.yaml"
    content = {"method": "serenet", "depths_um": [0.5, -1.0], "author": "Žofie", "views": None}
    write_yaml(path, content, overwrite=False)
    assert list(read_yaml(path).items()) == list(content.items())
    assert "Žofie" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a: [1, 2", "not valid YAML"),
        (b"a: 1\n\tb: 2", "not valid YAML"),
        (b"\xff\xfe\x00a", "not valid YAML"),
        (b"a: !!python/object/apply:os.getcwd []", "not valid YAML"),
        (b"- 1\n- 2\n", "found list"),
        (b"", "found NoneType"),
    ],
)
def test_files_that_are_no_settings(tmp_path, content, reason):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"settings\.yaml: .*{reason}") as failure:
        read_yaml(path)
    assert "\n" not in str(failure.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UserError, match=r"absent\.yaml: cannot be read"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path)


def test_existing_settings_are_kept(tmp_path):
    path = tmp_path / "settings.yaml"
    write_yaml(path, {"a": 1}, overwrite=False)
    with pytest.raises(UserError, match="--overwrite"):
        write_yaml(path, {"a": 2}, overwrite=False)
    write_yaml(path, {"a": 3}, overwrite=True)
    assert read_yaml(path) == {"a": 3}
