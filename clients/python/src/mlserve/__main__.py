"""`python -m mlserve`: the command `mlserve`."""

import sys

from mlserve.cli import main

if __name__ == "__main__":
    sys.exit(main())
