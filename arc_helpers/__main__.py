"""`python -m arc_helpers`."""

from arc_helpers.cli import main

if __name__ == "__main__":
    main()
