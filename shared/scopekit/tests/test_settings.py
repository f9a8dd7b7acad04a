import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from scopekit.errors import UserError
from scopekit.settings import (
    describe_faults,
    find_config,
    read_json,
    read_yaml,
    shipped_configs,
    write_yaml,
)


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
    with pytest.raises(UserError, match="`overwrite=True`"):
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


def test_a_fault_that_names_its_key_is_told_once():
    class Named(BaseModel):
        width_um: float

        @field_validator("width_um")
        @classmethod
        def _check(cls, value):
            raise ValueError(f"width_um is {value:g}; it must lie below 2 um")

    with pytest.raises(ValidationError) as failure:
        Named(width_um=5)
    assert describe_faults(failure.value, Named) == "width_um is 5; it must lie below 2 um"


def test_json_is_read_with_clear_errors(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2]}')
    assert read_json(path) == {"a": [1, 2]}
    for text, message in (
        ("{", "not valid JSON"),
        ("3", "expected an object {...}, found a number"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "the key 'b' is there twice"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message.replace("{", r"\{")):
            read_json(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "c:\n  - {a: 1, a: 1}\n"])
def test_a_yaml_key_that_is_there_twice_is_refused(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.yaml: not valid YAML \(the key 'a' is there twice"):
        read_yaml(path)
    path.write_text("base: &base {a: 1, b: 2}\nmine: {<<: *base, a: 3}\n")
    assert read_yaml(path)["mine"] == {"a": 3, "b": 2}


def test_a_mark_of_the_encoding_is_no_content(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"a": 1}
    (tmp_path / "a.yaml").write_text("a: 1", encoding="utf-8-sig")
    assert read_yaml(tmp_path / "a.yaml") == {"a": 1}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a folder to work in, with a package there that ships a configuration, ``demo``."""
    shipped = tmp_path / "some_package" / "shipped"
    shipped.mkdir(parents=True)
    (shipped.parent / "__init__.py").write_text("raise AssertionError('it is not to be loaded')")
    (shipped / "demo.json").write_text("{}")
    (shipped / "demo.pt").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_configurations_are_found_by_path_and_by_name(package):
    shipped = {"demo": package / "some_package" / "shipped" / "demo.json"}
    assert shipped_configs("some_package") == shipped
    assert shipped_configs("no_such_package") == {}
    assert find_config("demo", "some_package") == shipped["demo"]
    folder = package / "experiments" / "configs"
    folder.mkdir(parents=True)
    (folder / "demo.json").touch()
    assert find_config("demo", "some_package").parent.name == "configs"  # ones own comes first
    (package / "demo").touch()
    assert find_config("demo", "some_package").name == "demo"
    assert find_config(package / "demo", "some_package") == package / "demo"


def test_configurations_that_are_missing_are_told_with_those_that_ship(package):
    with pytest.raises(UserError, match=r"other: .*other\.json, nor one that ships \(demo\);"):
        find_config("other", "some_package")
    with pytest.raises(UserError, match=r"other: no such file, nor [^;]*other\.json; give"):
        find_config("other", "no_such_package")
    for path in ("some/other", "other.json"):
        with pytest.raises(UserError, match=f"{path}: no such file; give the path of a JSON file"):
            find_config(path, "some_package")
