"""Several processes that score together: each scores some chunks of rows, and all read what the others have written.

    accelerate launch --num_processes 4 -m sstoken_plugins audit chats.jsonl --model M
    torchrun --nproc_per_node 4 -m sstoken_plugins audit chats.jsonl --model M

They share the folder of the scores, so it has to lie where all of them see it.
"""

from __future__ import annotations

import os
from typing import Any


class Processes:
    """The processes that were started together; one, unless a launcher says otherwise.

    Attributes:
        number: of this process, from 0.
        count: of all.
    """

    def __init__(self) -> None:
        self._state: Any = None
        self.number, self.count = 0, int(os.environ.get("WORLD_SIZE", "1"))
        if self.count > 1:
            import torch
            from accelerate import PartialState

            # Where there is a device, each has its own; the CPU's processes talk through gloo.
            self._state = PartialState(cpu=not torch.accelerator.is_available())
            self.number, self.count = self._state.process_index, self._state.num_processes

    @property
    def is_main(self) -> bool:
        return self.number == 0

    @property
    def device(self) -> str | None:
        """That of this process; None: whichever there is."""
        return None if self._state is None else str(self._state.device)

    def wait(self) -> None:
        """Until all are here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def shared(self, value: str) -> str:
        """The main process's value, in all of them."""
        if self._state is None:
            return value
        from accelerate.utils import broadcast_object_list

        found: str = broadcast_object_list([value])[0]
        return found

    def end(self) -> None:
        """Lets go of the others."""
        if self._state is not None:
            self._state.destroy_process_group()
