"""Four sources, their order, the origin of each value, and what a person is told of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtcp_patch.config import ARGUMENT, SETTINGS, ConfigError, Settings, check_devices, load


def settings(directory: Path, given: dict[str, object] | None = None, **environ: str) -> Settings:
    """Load with nothing of this process's own environment."""
    return load(given, environ=environ, directory=str(directory))


def mistake(directory: Path, given: dict[str, object] | None = None, **environ: str) -> str:
    """The text of the error."""
    with pytest.raises(ConfigError) as caught:
        settings(directory, given, **environ)
    return str(caught.value)


def test_defaults(tmp_path: Path) -> None:
    loaded = settings(tmp_path)
    assert (loaded.devices, loaded.require, loaded.layout, loaded.cores) == (("xdp:lo",), False, "unified", 1)
    assert {loaded.origin(name) for name in SETTINGS} == {"default"}


def test_each_source_beats_the_next(tmp_path: Path) -> None:
    (tmp_path / "mtcp_patch.toml").write_text("exit_linger_ms = 1\n")
    assert settings(tmp_path).exit_linger_ms == 1
    assert settings(tmp_path).origin("exit_linger_ms") == "mtcp_patch.toml:1"
    loaded = settings(tmp_path, MTCP_PATCH_EXIT_LINGER_MS="2")
    assert (loaded.exit_linger_ms, loaded.origin("exit_linger_ms")) == (2, "environment MTCP_PATCH_EXIT_LINGER_MS")
    loaded = settings(tmp_path, {"exit_linger_ms": "3"}, MTCP_PATCH_EXIT_LINGER_MS="2")
    assert (loaded.exit_linger_ms, loaded.origin("exit_linger_ms")) == (3, "command line")


def test_both_toml_files(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[build-system]\nrequires = []\n\n[tool.mtcp_patch]\ndevice = "memory"\ncores = 1\n')
    loaded = settings(tmp_path)
    assert (loaded.devices, loaded.origin("device")) == (("memory",), "pyproject.toml:5")
    (tmp_path / "mtcp_patch.toml").write_text("verbose = 1\n")
    loaded = settings(tmp_path)
    assert (loaded.devices, loaded.verbose) == (("xdp:lo",), 1)


def test_someone_elses_pyproject_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other\nbroken")
    assert settings(tmp_path).devices == ("xdp:lo",)


def test_only_the_current_directory_counts(tmp_path: Path) -> None:
    (tmp_path / "mtcp_patch.toml").write_text("verbose = 1\n")
    below = tmp_path / "below"
    below.mkdir()
    assert settings(below).verbose == 0


def test_a_child_loads_what_the_launcher_decided_with_its_origins(tmp_path: Path) -> None:
    (tmp_path / "mtcp_patch.toml").write_text("exit_linger_ms = 7\n")
    parent = settings(tmp_path, {"device": "memory"}, MTCP_PATCH_REQUIRE="1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mtcp_patch.toml").write_text("this is not even TOML")
    child = settings(elsewhere, **parent.to_environ())
    for name in SETTINGS:
        assert child.value(name) == parent.value(name)
        assert child.origin(name) == parent.origin(name)


def test_a_variable_changed_below_the_launcher_has_its_own_origin(tmp_path: Path) -> None:
    environ = settings(tmp_path, {"exit_linger_ms": 5}).to_environ() | {"MTCP_PATCH_EXIT_LINGER_MS": "6"}
    child = settings(tmp_path, **environ)
    assert (child.exit_linger_ms, child.origin("exit_linger_ms")) == (6, "environment MTCP_PATCH_EXIT_LINGER_MS")


@pytest.mark.parametrize("text", ["1", "true", "YES", "on"])
def test_true_words(tmp_path: Path, text: str) -> None:
    assert settings(tmp_path, MTCP_PATCH_REQUIRE=text).require


@pytest.mark.parametrize("text", ["0", "false", "No", "off"])
def test_false_words(tmp_path: Path, text: str) -> None:
    assert not settings(tmp_path, MTCP_PATCH=text).enabled


def test_an_empty_variable_is_no_variable(tmp_path: Path) -> None:
    loaded = settings(tmp_path, MTCP_PATCH="", MTCP_PATCH_CORES="", MTCP_PATCH_REQUIRE="")
    assert (loaded.enabled, loaded.cores, loaded.origin("cores")) == (True, 1, "default")


def test_devices_in_every_form(tmp_path: Path) -> None:
    assert settings(tmp_path, MTCP_PATCH_DEVICE="xdp:lo, memory,xdp:lo").devices == ("xdp:lo", "memory")
    (tmp_path / "mtcp_patch.toml").write_text('device = ["memory", "xdp:eth0"]\n')
    assert settings(tmp_path).devices == ("memory", "xdp:eth0")


MALFORMED = {
    "value missing": ("verbose = 1\ncores =\n", "mtcp_patch.toml:2: malformed TOML: Invalid value"),
    "no TOML at all": ("verbose 1\n", "mtcp_patch.toml:1: malformed TOML"),
    "unclosed table": ("\n\n[tool\n", "mtcp_patch.toml:3: malformed TOML"),
    "key twice": ("verbose = 1\n\nverbose = 2\n", "mtcp_patch.toml:3: malformed TOML: Cannot overwrite a value"),
    "end of file": ('device = ["memory",\n', "mtcp_patch.toml:2: malformed TOML"),
    "unknown key": ("# cores\n\ncore = 1\n", "mtcp_patch.toml:3: unknown key 'core'; did you mean cores?"),
    "unknown quoted key": ('\n"exit-linger" = 1\n', "mtcp_patch.toml:2: unknown key 'exit-linger'"),
    "text for a number": ('cores = "one"\n', "mtcp_patch.toml:1: cores = 'one': expected a whole number"),
    "truth for a number": ("verbose = true\n", "mtcp_patch.toml:1: verbose = True: expected a whole number"),
    "fraction for a number": ("verbose = 1.0\n", "mtcp_patch.toml:1: verbose = 1.0: expected a whole number"),
    "number for a truth": ("\nrequire = 1\n", "mtcp_patch.toml:2: require = 1: expected true or false"),
    "number for a device": ("device = 1\n", "mtcp_patch.toml:1: device = 1: expected a device"),
    "table for a device": ("verbose = 0\n[device]\nname = 'x'\n", "mtcp_patch.toml:2: device = {"),
    "no device": ("device = []\n", "mtcp_patch.toml:1: device = []: expected at least one device"),
    "unknown device": (
        'device = ["memry"]\n',
        "mtcp_patch.toml:1: device = ['memry']: unknown device 'memry'; did you",
    ),
    "unknown layout": (
        'layout = "spilt"\n',
        "mtcp_patch.toml:1: layout = 'spilt': expected unified, merged or split; did",
    ),
    "cores to come": ("cores = 4\n", "mtcp_patch.toml:1: cores = 4: more than one core is not there yet"),
    "out of range": ("exit_linger_ms = 60001\n", "expected a whole number from 0 to 60000"),
}


@pytest.mark.parametrize(("text", "expected"), MALFORMED.values(), ids=MALFORMED.keys())
def test_mistakes_in_toml_name_file_and_line(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "mtcp_patch.toml").write_text(text)
    assert expected in mistake(tmp_path)


def test_mistakes_in_pyproject_name_the_line_below_our_header(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.a]\ncores = 1\n\n[tool.mtcp_patch]\nverbose = 0\ncores = 0\n")
    assert mistake(tmp_path).startswith("pyproject.toml:6: cores = 0: ")


def test_our_table_in_pyproject_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool]\nmtcp_patch = 3\n")
    assert mistake(tmp_path) == "pyproject.toml:2: tool.mtcp_patch must be a table"


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "mtcp_patch.toml").write_bytes(b"verbose = 1\nlayout = '\xff'\n")
    assert mistake(tmp_path) == "mtcp_patch.toml:2: not UTF-8, which TOML must be"


def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "mtcp_patch.toml").mkdir()
    assert mistake(tmp_path) == "mtcp_patch.toml: cannot be read: Is a directory"


def test_mistakes_in_the_environment(tmp_path: Path) -> None:
    assert "unknown variable MTCP_PATCH_DEVCE; did you mean MTCP_PATCH_DEVICE?" in mistake(
        tmp_path, MTCP_PATCH_DEVCE="x"
    )
    assert mistake(tmp_path, MTCP_PATCH_CORES="many").startswith("environment: MTCP_PATCH_CORES = 'many': expected")
    assert mistake(tmp_path, MTCP_PATCH="maybe") == "environment: MTCP_PATCH = 'maybe': expected true or false"


def test_variables_that_are_no_settings(tmp_path: Path) -> None:
    load(environ={"MTCP_PATCH_RUNTIME_DIR": "/x", "MTCP_PATCHES": "1"}, directory=str(tmp_path))


def test_mistakes_in_arguments(tmp_path: Path) -> None:
    assert mistake(tmp_path, {"devise": ["memory"]}) == "unknown setting 'devise'; did you mean device?"
    with pytest.raises(ConfigError, match=r"install\(\) argument: cores = 'x'"):
        load({"cores": "x"}, given_origin=ARGUMENT, environ={}, directory=str(tmp_path))


def test_a_mistake_counts_even_where_a_stronger_source_overrides_it(tmp_path: Path) -> None:
    (tmp_path / "mtcp_patch.toml").write_text("cores = 'x'\n")
    assert "mtcp_patch.toml:1" in mistake(tmp_path, {"cores": 1})


def test_origins_that_are_garbage_are_ignored(tmp_path: Path) -> None:
    loaded = settings(tmp_path, MTCP_PATCH_ORIGINS="\x1f\x1e nonsense \x1f", MTCP_PATCH_VERBOSE="1")
    assert loaded.origin("verbose") == "environment MTCP_PATCH_VERBOSE"


def test_settings_do_not_change(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="do not change"):
        settings(tmp_path).cores = 2


def test_what_the_native_part_gets(tmp_path: Path) -> None:
    native = settings(tmp_path, {"device": "memory"}).for_native()
    assert native["devices"] == ["memory"]
    assert "enabled" not in native
    assert {type(value) for value in native.values()} <= {bool, int, str, list}


def test_interfaces_must_exist(tmp_path: Path) -> None:
    check_devices(settings(tmp_path, {"device": "memory,xdp:lo"}))
    with pytest.raises(ConfigError, match=r"command line: device xdp:none0: no interface 'none0' here.*there: .*lo"):
        check_devices(settings(tmp_path, {"device": "xdp:none0"}))
