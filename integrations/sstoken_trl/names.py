"""How TRL's users write the options of the selection."""

PREFIX = "sstoken_"
"""Of the selection's options among TRL's own."""


def own_name(option: str) -> str:
    """`sstoken_rho` for `rho`."""
    return PREFIX + option
