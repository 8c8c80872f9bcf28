"""The plugin class that Axolotl loads.

Axolotl logs an ImportError of a plugin's module and continues without it, which would train on every token
unnoticed. So nothing is imported here that Axolotl has not imported itself; the rest comes where an error stops the
run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from axolotl.integrations.base import BasePlugin

if TYPE_CHECKING:
    from sstoken_plugins import TokenSelector


class SSTokenPlugin(BasePlugin):
    """Trains on the tokens that matter (ssToken, arXiv 2510.18250).

        plugins:
          - sstoken_axolotl.SSTokenPlugin

    is enough; an optional block `sstoken:` takes the options of `sstoken_plugins.SSTokenConfig`, and `enabled: false`.
    Only training is affected: evaluation, preprocessing, inference and merging are as without the plugin.

    Raises:
        ValueError: before the data and the model are loaded, for what cannot be combined with token selection.
    """

    def __init__(self) -> None:
        super().__init__()
        self._selector: TokenSelector | None = None

    def get_input_args(self) -> str:
        return "sstoken_axolotl.args.SSTokenArgs"

    def load_datasets(self, cfg: Any, preprocess: bool = False) -> None:
        # The first hook that only a training run calls. Data are loaded as usual, since this returns none.
        if not preprocess:
            from .activation import prepare

            self._selector = prepare(cfg)

    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:
        from .activation import activate, prepare

        selector, self._selector = self._selector or prepare(cfg), None
        if selector is not None:
            activate(selector, cfg, trainer)
