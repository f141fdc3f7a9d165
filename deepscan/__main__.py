"""``python -m deepscan``: the command where its folder is not on the path."""

from deepscan.cli import main

if __name__ == "__main__":
    main()
