"""`python -m venues.gateway [options]`."""

from __future__ import annotations

import sys

from venues.gateway.cli import main

sys.exit(main(sys.argv[1:]))
