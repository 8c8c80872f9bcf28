"""A wheel built from the checkout works outside it."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "sstoken_plugins", "sstoken_transformers", "sstoken_trl", "sstoken_axolotl", "sstoken_swift", "sstoken_report",
    "sstoken_commands", "sstoken_audit",
)  # fmt: skip
ENTRY_POINTS = {
    "report": "sstoken_report.plugin",
    "trl": "sstoken_trl.framework",
    "axolotl": "sstoken_axolotl.framework",
    "swift": "sstoken_swift.framework",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """An environment of its own that holds the wheel, and sees torch and pluggy of this one."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    # What the wheel depends on comes from here, but not the checkout, which is installed editable.
    import torch

    shared = Path(torch.__file__).parents[1]
    links = folder / "shared"
    links.mkdir()
    for entry in shared.iterdir():
        if "sstoken" not in entry.name and not entry.name.endswith(".pth"):
            (links / entry.name).symlink_to(entry)
    Path(site, "shared.pth").write_text(f"{links}\n")
    return folder / "env"


def run(installed: Path, *command: str) -> str:
    done = subprocess.run(
        [installed / "bin" / command[0], *command[1:]],
        cwd=installed, capture_output=True, text=True, check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_packages_are_typed_and_come_from_the_wheel(installed):
    code = (
        "import importlib.util, pathlib\n"
        f"for name in {PACKAGES}:\n"
        "    folder = pathlib.Path(importlib.util.find_spec(name).origin).parent\n"
        "    assert (folder / 'py.typed').is_file(), name\n"
        "    print(folder)\n"
    )
    folders = run(installed, "python", "-c", code).splitlines()
    assert len(folders) == len(PACKAGES)
    assert all(str(installed) in folder for folder in folders)


def test_core_needs_torch_and_pluggy_only(installed):
    code = (
        "import sys, sstoken_plugins\n"
        "from sstoken_plugins import SSTokenConfig, TokenSelector\n"
        "TokenSelector(SSTokenConfig())\n"
        "assert not {'transformers', 'trl', 'peft', 'axolotl', 'accelerate'} & set(sys.modules)\n"
    )
    run(installed, "python", "-c", code)


def test_command(installed):
    assert "sft" in run(installed, "sstoken", "--help")
    assert run(installed, "sstoken", "--version").startswith("sstoken-plugins 0.")
    listed = run(installed, "sstoken", "plugins")
    names = {line.split()[0] for line in listed.splitlines() if line.strip()}
    assert {"sstoken", "random", "base", "adapter", "rel", "attention", "trl", "axolotl"} <= names
    assert "left out" not in listed


def test_entry_points(installed):
    code = (
        "from importlib import metadata\n"
        "for entry in metadata.entry_points(group='sstoken'):\n"
        "    print(entry.name, entry.value)\n"
    )
    found = dict(line.split() for line in run(installed, "python", "-c", code).splitlines())
    assert found == ENTRY_POINTS
    code = "from sstoken_plugins import all_options; print(*all_options())"
    assert {"rho", "history", "report_steps"} <= set(run(installed, "python", "-c", code).split())
