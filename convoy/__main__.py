"""`python -m convoy VERB` is `convoy VERB`."""

from convoy.cli import main

if __name__ == "__main__":
    main()
