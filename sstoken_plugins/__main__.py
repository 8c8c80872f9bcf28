"""`python -m sstoken_plugins` is `sstoken`."""

import sys

from .cli import main

sys.exit(main())
