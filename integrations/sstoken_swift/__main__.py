"""Prints what `external_plugins` of ms-swift has to name:

swift sft run.yaml --external_plugins "$(python -m sstoken_swift)"
"""

from pathlib import Path

print(Path(__file__).with_name("plugin.py"))
