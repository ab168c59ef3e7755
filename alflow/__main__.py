"""``python -m alflow``."""

from alflow.cli import main

if __name__ == "__main__":
    main()
