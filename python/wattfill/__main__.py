"""``python -m wattfill``: the command line."""

import sys

from wattfill.cli import main

sys.exit(main())
