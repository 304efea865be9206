"""``python -m musicsyncd`` is the command ``musicsyncd``."""

from musicsyncd.cli import main

if __name__ == "__main__":
    main()
