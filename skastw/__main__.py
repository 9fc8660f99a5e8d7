"""``python -m skastw`` is the ``skastw`` command."""

from skastw.cli import main

if __name__ == "__main__":
    main()
