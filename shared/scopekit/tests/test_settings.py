import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scopekit.errors import UserError
from scopekit.settings import describe_faults, read_json, read_yaml, write_yaml


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
        (b"- 1\n- 2\n", "found a list"),
        (b"", "found nothing"),
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


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = Field(ge=1, description="a whole number, 1 or more")
    plain: float = 1.0


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    inner: Inner
    size: tuple[int, int] = Field((1, 1), description="two whole numbers")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"inner": {"count": 0}}, "inner.count: allowed: a whole number, 1 or more (now 0)"),
        ({"inner": {}}, "inner.count: missing; allowed: a whole number, 1 or more"),
        ({"inner": {"count": 1, "x": 2}}, "inner.x: unknown key; known are count, plain"),
        ({"inner": {"count": 1}, "y": 2}, "y: unknown key; known are inner, size"),
        ({"inner": {"count": 1}, "size": [3]}, "size: allowed: two whole numbers (now [3])"),
        ({"inner": {"count": 1}, "size": ["a", "b"]}, "size: allowed: two whole numbers (now 'a')"),
        ({"inner": 3}, "inner: expected 'name: value' lines (now 3)"),
        (
            {"inner": {"count": 1, "plain": "x"}},
            "inner.plain: Input should be a valid number, unable to parse string as a number "
            "(now 'x')",
        ),
        ({}, "inner: missing"),
    ],
)
def test_faults_tell_the_key_the_value_and_what_is_allowed(content, message):
    with pytest.raises(ValidationError) as failure:
        Outer.model_validate(content)
    assert describe_faults(failure.value, Outer) == message


def test_json_is_read_with_clear_errors(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2]}')
    assert read_json(path) == {"a": [1, 2]}
    for text, message in (
        ("{", "not valid JSON"),
        ("3", "expected an object {...}, found a number"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message.replace("{", r"\{")):
            read_json(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path / "none.json")
