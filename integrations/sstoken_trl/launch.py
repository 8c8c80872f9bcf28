"""Starts a program with `accelerate launch`, and says at the end why it refused to run.

A refusal of a process that a launcher has started would drown in what the launcher says of it. So the process leaves
its sentence in a file that this module names, and the command prints it when all is over.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sstoken_plugins.errors import Refused

from .arguments import parse_for_launcher
from .compat import accelerate_config

REFUSAL = "SSTOKEN_REFUSAL"
"""Environment variable: the file that a refusal is written to."""
STATUS = 2
"""Of a refusal: what the user asked for cannot work, as for a wrong command line."""


def finish(prog: str, program: Callable[[], object]) -> int:
    """Runs the program; returns the exit status. A refusal is said in one sentence, without a traceback."""
    try:
        program()
    except Refused as error:
        sentence = f"{prog}: {error}"
        if REFUSAL in os.environ:
            Path(os.environ[REFUSAL]).write_text(sentence, encoding="utf-8")
        else:
            print(sentence, file=sys.stderr)
        return STATUS
    return 0


def launch(argv: Sequence[str], module: str, prog: str, more: Sequence[str] = ()) -> int:
    """Starts a module that takes the flags of `sft` with `accelerate launch`; returns the exit status.

    Args:
        more: flags of the module alone.

    Raises:
        Refused: for arguments that are wrong, before anything is started.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    ours, launchers = parse_for_launcher(argv, prog)
    command = [*accelerate_config(launchers), "--module", module, *more, *ours]
    status: int = 0
    with tempfile.TemporaryDirectory() as folder:
        refusal = Path(folder, "refusal")
        os.environ[REFUSAL] = str(refusal)
        try:
            launch_command(launch_command_parser().parse_args(command))
        except subprocess.CalledProcessError as error:  # it has said why itself
            status = error.returncode
        except ChildFailedError as error:
            status = error.get_first_failure()[1].exitcode
        finally:
            del os.environ[REFUSAL]
        if refusal.is_file():
            print(refusal.read_text(encoding="utf-8"), file=sys.stderr)
            return STATUS
    return status
