"""What README and documentation show can be run: blocks are executed where that is cheap, and else checked."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import tomllib
import types

import pytest
import yaml

from sstoken_plugins import SSTokenConfig, all_options, registry
from sstoken_plugins.cli import _COMMANDS

from .blocks import PAGES, ROOT, Block, blocks, commands

HAS_TRL, HAS_AXOLOTL = (importlib.util.find_spec(name) is not None for name in ("trl", "axolotl"))
LANGUAGES = {"python", "sh", "yaml", "toml", "json", "text", "bibtex"}
PLUGIN_PAGE = "writing-a-plugin.md"


def test_every_block_says_its_language():
    assert {each.language for each in blocks()} <= LANGUAGES


def test_the_first_page_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_number_of_methods_is_right():
    own = [each for each in registry.registered("method").values() if each.__module__.startswith("sstoken_")]
    assert f"All {len(own)} methods" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text):
        path = "".join(target).partition("#")[0]
        assert "://" in path or (page.parent / path).exists(), path


# Python


@pytest.fixture
def plugin():
    """The plugin of the documentation, registered."""
    (source,) = (each for each in blocks("python") if each.page.name == PLUGIN_PAGE)
    module = types.ModuleType("documented_plugin")
    exec(compile(source.text, str(source), "exec", dont_inherit=True), module.__dict__)
    manager = registry.plugin_manager()
    manager.register(module, "documented")
    yield module
    manager.unregister(name="documented")


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python(block, tmp_path):
    tree = ast.parse(block.text)
    imported = {node.module.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    if imported <= {"dataclasses", "sstoken_plugins"} | {"torch"}:
        exec(compile(tree, str(block), "exec", dont_inherit=True), {"__name__": "documented"})
    if "sstoken_trl" in imported and HAS_TRL:
        import sstoken_trl

        (call,) = (
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "SSTokenSFTConfig"
        )
        values = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        config = sstoken_trl.SSTokenSFTConfig(**values | {"output_dir": str(tmp_path), "bf16": False})
        assert config.sstoken


def test_the_plugin_of_the_documentation_works(plugin):
    config = SSTokenConfig(strategy="focus", sharpness=2.0)
    assert config.sharpness == 2.0
    assert config.owners["signal"] == ("surprise",)


# Configurations


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml(block, plugin):
    settings = yaml.safe_load(block.text)
    if "plugins" in settings:
        assert settings["plugins"] == ["sstoken_axolotl.SSTokenPlugin"]
        SSTokenConfig(**settings["sstoken"])
        if HAS_AXOLOTL and block.page.name != PLUGIN_PAGE:
            from sstoken_axolotl.args import SSTokenArgs

            SSTokenArgs.model_validate({"sstoken": settings["sstoken"]})
    elif "external_plugins" in settings:  # ms-swift
        SSTokenConfig(**{k.removeprefix("SSTOKEN_").lower(): yaml.safe_load(v) for k, v in settings["ENV"].items()})
    elif "sstoken" not in settings:  # what stands in the block of either framework
        SSTokenConfig(**settings)
    else:
        assert settings.pop("sstoken") is True
        SSTokenConfig(**{name.removeprefix("sstoken_"): value for name, value in settings.items()})


@pytest.mark.parametrize("block", [*blocks("toml"), *blocks("json")], ids=str)
def test_data(block):
    if block.language == "toml":
        assert "sstoken" in tomllib.loads(block.text)["project"]["entry-points"]
    else:
        assert all(json.loads(line) for line in block.text.splitlines())


# Shell


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_shell(block: Block):
    for program, *rest in commands(block):
        {"pip": pip, "make": make, "sstoken": sstoken, "python": python, "accelerate": accelerate}[program](rest)


def pip(rest: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for each in re.findall(r"\[(.+)\]", " ".join(rest)):
        assert set(each.split(",")) <= extras.keys()


def make(rest: list[str]) -> None:
    assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def python(rest: list[str]) -> None:
    if rest[0] == "-m":
        assert rest[1] == "axolotl.cli.train"
        overrides(flags(rest))
    else:
        source = (ROOT / rest[0]).read_text(encoding="utf-8")
        for name in flags(rest):
            assert f'"{name}"' in source


def accelerate(rest: list[str]) -> None:
    assert rest[:3] == ["launch", "-m", "sstoken_plugins"]
    sstoken(rest[3:])


def sstoken(rest: list[str]) -> None:
    name, *arguments = rest
    assert name in _COMMANDS
    given = flags(arguments)
    if name == "audit":
        from sstoken_audit.command import make_parser

        assert given <= make_parser()._option_string_actions.keys()
    elif name == "init":
        from sstoken_commands.init import make_parser as make_init_parser

        assert given <= make_init_parser()._option_string_actions.keys()
    elif arguments and arguments[0].endswith("axolotl.yaml"):
        overrides(given - own_flags(name))
    elif HAS_TRL:
        from sstoken_trl.sft import make_parser as make_sft_parser

        known = {"--config", "--as", "--model", *make_sft_parser()._option_string_actions, *own_flags(name)}
        assert given <= known, given - known


def own_flags(command: str) -> set[str]:
    """Those of `sstoken COMMAND` beside the framework's."""
    if command not in ("inspect", "compare"):
        return {"doctor": {"--json", "--framework", "--forecast", "--verbose"}}.get(command, set())
    if importlib.util.find_spec("jinja2") is None:
        pytest.skip("reports are not installed")
    import dataclasses

    from sstoken_report.inspection import InspectArguments

    short = {"--model", "--data", "--split", *(f"--{name}" for name in all_options())}
    if command == "compare":
        from sstoken_commands.compare import make_parser

        return short | make_parser()._option_string_actions.keys()
    return short | {f"--{each.name}" for each in dataclasses.fields(InspectArguments)}


def overrides(given: set[str]) -> None:
    """Of Axolotl's YAML."""
    for each in given:
        block, _, option = each.removeprefix("--").partition("__")
        assert block == "sstoken"
        assert option == "enabled" or option in all_options()


def flags(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}
