"""``python -m eclipse``."""

import sys

from eclipse.cli import main

if __name__ == "__main__":
    sys.exit(main())
