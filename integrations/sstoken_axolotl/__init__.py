"""ssToken for Axolotl: `plugins: [sstoken_axolotl.SSTokenPlugin]` in a YAML that already works."""

from .plugin import SSTokenPlugin

__all__ = ["SSTokenPlugin"]
