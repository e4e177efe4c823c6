"""`python -m batchwright` is the command line."""

import sys

from batchwright.cli import main

sys.exit(main())
