"""What `import sstoken_plugins` brings, and what it does not."""

from __future__ import annotations

import ast
import inspect
import sys

import pytest

import sstoken_plugins

from .. import processes

WITHOUT_TORCH = """
import sys
{code}
heavy = {{"torch", "transformers", "rich"}} & sys.modules.keys()
sys.exit(f"imports {{sorted(heavy)}}" if heavy else 0)
"""


@pytest.mark.parametrize(
    "code",
    [
        "import sstoken_plugins",
        "from sstoken_plugins.cli import main; main([])",
        "from sstoken_plugins import hookimpl, option, NoOptions",
    ],
)
def test_help_does_not_wait_for_torch(code):
    status, printed = processes.run(sys.executable, "-c", WITHOUT_TORCH.format(code=code))
    assert status == 0, printed


def test_every_name_is_there():
    for name in sstoken_plugins.__all__:
        assert getattr(sstoken_plugins, name) is not None
    assert set(sstoken_plugins.__all__) <= set(dir(sstoken_plugins))
    with pytest.raises(AttributeError, match="no attribute 'Strategy'"):
        _ = sstoken_plugins.Strategy


def test_type_checkers_see_the_names_that_are_there():
    tree = ast.parse(inspect.getsource(sstoken_plugins))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        f".{node.module}": {alias.name for alias in node.names}
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
    }
    assert seen == {home: set(names.split()) for home, names in sstoken_plugins._HOMES.items()}
    assert {name for names in seen.values() for name in names} == set(sstoken_plugins.__all__)
