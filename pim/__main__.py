"""The command `pim`, also `python -m pim`."""

import sys

from pim.cli import main

if __name__ == "__main__":
    sys.exit(main())
