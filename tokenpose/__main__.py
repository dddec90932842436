"""``python -m tokenpose`` is the `tokenpose` command."""

from tokenpose.cli import main

if __name__ == "__main__":
    main()
