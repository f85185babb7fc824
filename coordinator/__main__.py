"""``python -m coordinator``: a supervisor's child."""

from __future__ import annotations

import sys

from coordinator.process import main

if __name__ == "__main__":
    sys.exit(main())
