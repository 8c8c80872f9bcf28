"""A plugin that is broken loses itself alone, and is named; whatever is built in goes on."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from .. import processes

HOOK = "from sstoken_plugins import *\nfrom sstoken_plugins import hookimpl\n"
METHOD = f"""{HOOK}
class Mine(Method):
    '''Mine.'''
    def signals(self, progress): return []
    def weights(self, signals, documents, progress): return documents.response.float()
"""


def registering(what: str, name: str = "'mine'") -> str:
    return f"{METHOD}\n@hookimpl\ndef register_methods(register):\n    register({name}, {what})\n"


OWN_RHO = f"""{METHOD}
from dataclasses import dataclass
@dataclass(frozen=True)
class Options(NoOptions):
    rho: str = option("none", "Something else.")
Mine.Options = Options
@hookimpl
def register_methods(register): register('other', Mine)
"""

# What is wrong, and what has to be said of it.
BROKEN = {
    "lacks_a_package": ("import package_that_nobody_has", "ModuleNotFoundError: .*package_that_nobody_has"),
    "no_python": ("def (", "SyntaxError"),
    "fails": ("1 / 0", "ZeroDivisionError"),
    "unknown_hook": (f"{HOOK}\n@hookimpl\ndef register_metods(register): ...", "ValidationError: .*register_metods"),
    "unknown_argument": (f"{HOOK}\n@hookimpl\ndef register_methods(registrar): ...", "ValidationError: .*registrar"),
    "no_mark": (f"{METHOD}\ndef register_methods(register): register('mine', Mine)", "`@hookimpl` missing"),
    "instance": (registering("Mine()"), r"register_methods failed: .*has to be a class \(not an instance\)"),
    "nothing": (registering("None"), "method 'mine' is None, but it has to be a class"),
    "text": (registering("'Mine'"), "method 'mine' is 'Mine', but it has to be a class"),
    "abstract": (registering("Method"), "method 'mine' is Method, which lacks signals, weights"),
    "foreign": (registering("dict"), "method 'mine' is dict, which is not derived from the base class"),
    "another_kind": (registering("Signal"), "method 'mine' is Signal, which is not derived from the base class"),
    "no_name": (registering("Mine", "3"), "the name of a method is 3, but it has to be text"),
    "fails_to_register": (registering("Mine") + "    raise KeyError('lost')", "register_methods failed: 'lost'"),
    "takes_a_name": (registering("Mine", "'full'"), "the name of its method 'full' .* taken by the method 'full' "),
    "takes_an_option": (OWN_RHO, r"the option 'rho' of its method 'other' .* is taken by the method '\w+' "),
    "takes_history": (OWN_RHO.replace("rho", "history").replace("other", "more"), "the option 'history' of its"),
    "twin": (registering("Mine", "'twin'"), "the name of its method 'twin' .* is taken by .*plugin_other_twin"),
    "other_twin": (registering("Mine", "'twin'"), r"is taken by .*plugin_twin\).* or uninstall one of the two"),
    "no_options": (registering("type('Mine', (Mine,), {'Options': dict})"), "dataclass derived from NoOptions"),
}  # fmt: skip

LOOK = """
import json, sys
from sstoken_plugins import SSTokenConfig, TokenSelector, all_options, registry
for name in ("full", "sstoken", "good"):
    TokenSelector(SSTokenConfig(strategy=name))
try:
    SSTokenConfig(strategy="mine")
except ValueError as error:
    refusal = str(error)
all_options()
print("RESULT", json.dumps({"broken": registry.broken_plugins(), "refusal": refusal,
                            "packages": registry.installed_packages()}))
"""


def install(folder: Path, name: str, source: str) -> None:
    """As pip would: a module and its entry point."""
    (folder / f"plugin_{name}.py").write_text(source)
    info = folder / f"plugin_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sstoken]\n{name} = plugin_{name}\n")


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """What a process says in whose environment all of these are installed."""
    folder = tmp_path_factory.mktemp("site")
    for name, (source, _) in BROKEN.items():
        install(folder, name, source)
    install(folder, "good", registering("Mine", "'good'"))
    path = os.pathsep.join([str(folder), str(processes.TOP), os.environ.get("PYTHONPATH", "")])
    status, output = processes.run(sys.executable, "-c", LOOK, timeout=120, PYTHONPATH=path)
    assert status == 0, output
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT ")), output


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_loses_itself_and_is_named(looked, name):
    found, output = looked
    assert re.search(BROKEN[name][1], found["broken"][name], re.DOTALL), found["broken"][name]
    assert output.count(f"The plugin {name!r} is left out") == 1
    assert f"The plugin {name!r} was left out: " in found["refusal"]


def test_only_the_broken_ones_are_left_out(looked):
    found, _ = looked
    assert "good" not in found["broken"]
    assert "plugin-good 1.0" in found["packages"]
    assert "`strategy` is 'mine', which is not registered. Known: " in found["refusal"]
    assert "good" in found["refusal"].partition("Known: ")[2].partition(".")[0]
