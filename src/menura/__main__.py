"""``python -m menura``: the same as the program ``menura``."""

from menura.cli import main

if __name__ == "__main__":
    main()
