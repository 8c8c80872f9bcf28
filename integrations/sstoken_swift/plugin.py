"""The file that `external_plugins` of ms-swift names: it puts our trainer in the place of swift's."""

from __future__ import annotations

from sstoken_swift.compat import replace_trainers

replace_trainers()
