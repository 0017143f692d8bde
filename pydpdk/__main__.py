"""``python -m pydpdk``: the command line."""

import sys

from pydpdk.cli import main

sys.exit(main())
