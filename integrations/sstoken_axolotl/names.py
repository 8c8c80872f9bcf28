"""How Axolotl's users write the plugin and its options."""

PLUGIN = "sstoken_axolotl.SSTokenPlugin"
"""What the YAML's `plugins` have to name."""


def own_name(option: str) -> str:
    """Options have their own names in the block `sstoken:`."""
    return option
