"""`python -m workbench` and the `workbench` command."""

import sys

from workbench.cli import main as run


def main() -> None:
    sys.exit(run())


if __name__ == "__main__":
    main()
