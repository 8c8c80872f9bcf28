"""`sstoken doctor`, `inspect` and `record` find out which framework a command line is for."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

pytest.importorskip("transformers")

from sstoken_commands.doctor import own_flags
from sstoken_plugins import Refused
from sstoken_plugins.cli import main
from sstoken_transformers.choosing import frameworks, pick
from sstoken_transformers.framework import split

from .. import processes
from ..local import byte_llama
from ..processes import TOP

RECIPES = [(path, path.parent.name) for kind in ("trl", "axolotl") for path in (TOP / "recipes" / kind).glob("*.yaml")]
BOTH = {"base_model": "m", "model_name_or_path": "m"}


def label_of(*arguments: object, name: str | None = None) -> str:
    """Of the framework that is picked, installed or not."""
    try:
        return pick(split([str(argument) for argument in arguments]), name).label
    except Refused as error:
        if "not installed" not in str(error):
            raise
        return str(error).removeprefix("This is for ").partition(",")[0]


@pytest.fixture
def written(tmp_path):
    def write(content: object):
        path = tmp_path / "run.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


@pytest.mark.parametrize(("path", "kind"), RECIPES, ids=lambda value: getattr(value, "name", value))
def test_every_recipe_is_told_by_its_keys(path, kind):
    assert label_of(path) == frameworks()[kind].label


def test_flags_alone_are_trls():
    assert label_of("--model_name_or_path", "m", "--sstoken") == "TRL"
    assert label_of("--config", "run.yaml") == "TRL"  # which reads that file itself


def test_the_user_has_the_last_word(written):
    path = written({"base_model": "m", "sequence_len": 8})
    assert label_of(path) == "Axolotl"
    assert label_of(path, name="trl") == "TRL"
    for flags in (["--framework", "trl"], ["--framework=trl"]):
        assert own_flags([str(path), *flags, "--json", "--x=1"]) == ([str(path), "--x=1"], True, "trl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOTH, "could be a configuration for axolotl or trl: say which with `--framework NAME`"),
        ({"colour": "blue"}, "could be a configuration for axolotl or swift or trl"),
        ("- a\n- list\n", "holds no settings"),
        ("a: [", "cannot be read: "),
    ],
    ids=["both", "neither", "list", "broken"],
)
@pytest.mark.parametrize("command", ["doctor", "record", "inspect"])
def test_what_could_be_several_or_nothing_is_refused(written, capsys, command, content, message, monkeypatch):
    if command == "inspect":
        pytest.importorskip("pyarrow")
    path = written(content)
    assert main([command, str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"sstoken {command}: {path} ")
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_missing_file_and_an_unknown_name_are_refused(tmp_path, capsys):
    assert main(["doctor", str(tmp_path / "nowhere.yaml")]) == 2
    assert "nowhere.yaml is not a file." in capsys.readouterr().err
    assert main(["doctor", "--framework", "unsloth", "--sstoken"]) == 2
    known = ", ".join(sorted(frameworks()))
    assert f"`--framework` is 'unsloth'. Known: {known}." in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "package"), [("trl", "trl"), ("axolotl", "axolotl")])
def test_a_framework_that_is_not_installed_is_named(kind, package, tmp_path):
    """As in an environment without it; nothing else stands in the way of saying so."""
    path = next(path for path, of in RECIPES if of == kind)
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from sstoken_plugins.cli import main\n"
        f"sys.exit(main([{{command!r}}, {str(path)!r}]))"
    )
    for command, status in (("doctor", 1), ("record", 2)):
        found, printed = processes.run(sys.executable, "-c", code.format(command=command))
        assert found == status, printed
        assert f"{frameworks()[kind].label}, which is not installed here: pip install " in printed
        assert "Traceback" not in printed


def test_a_third_framework_is_a_class_and_a_hook(tmp_path):
    """Neither of the others is there, and no command knows it."""
    pytest.importorskip("pyarrow")
    model, store = byte_llama(tmp_path / "model"), tmp_path / "history"
    rows = [
        {"input_ids": (ids := [1 + (7 * row + i) % 200 for i in range(12)]), "labels": [-100] * 4 + ids[4:]}
        for row in range(6)
    ]
    selection = {"rho": 0.5, "history": "recorded", "history_store": str(store)}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"tiny_model": str(model), "tiny_rows": rows, "selection": selection}))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({"tiny_model": str(model), "tiny_rows": rows, "selection": {"rho": 2}}))
    (tmp_path / "go.py").write_text(
        "import sys\n"
        "for package in ('trl', 'axolotl', 'sstoken_trl.sft', 'sstoken_axolotl.plugin'):\n"
        "    sys.modules[package] = None\n"
        "from sstoken_plugins import registry\n"
        "from sstoken_plugins.cli import main\n"
        "from tests.commands import tiny\n"
        "registry.plugin_manager().register(tiny)\n"
        f"for command in (['record', {str(path)!r}], ['doctor', {str(path)!r}, '--json'],\n"
        f"                ['doctor', {str(wrong)!r}],\n"
        f"                ['inspect', {str(path)!r}, '-n', '4', '--out', {str(tmp_path / 'shown')!r}]):\n"
        "    sys.stdout.flush()\n"
        "    print('\\nCOMMAND', *command[:1], flush=True)\n"
        "    print('\\nSTATUS', main(command), flush=True)\n"
    )
    status, printed = processes.run(sys.executable, tmp_path / "go.py", PYTHONPATH=f"{TOP}:{TOP}/integrations")
    assert status == 0, printed[-4000:]
    _, record, doctor, refused, inspect = printed.split("\nCOMMAND ")
    assert "History recorded: 6 new samples" in record
    assert "STATUS 0" in record
    assert store.is_dir()
    found = json.loads(doctor[doctor.index("{") : doctor.rindex("}") + 1])
    assert (found["framework"], found["healthy"]) == ("Tiny", True), found["problems"]
    assert (found["data"]["samples"], found["data"]["recorded"], found["data"]["kept_tokens"]) == (6, 6, 24)
    assert "`tiny.rho` is 2" in refused
    assert "STATUS 1" in refused
    assert "4 samples, step 0" in inspect
    assert "STATUS 0" in inspect
    assert (tmp_path / "shown" / "sstoken-inspect.html").is_file()
