"""Run the command line: `python -m keyvault.cli`."""

from __future__ import annotations

import sys

from keyvault.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
