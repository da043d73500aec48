"""`python -m diffex_dagster` is the command line `diffex`."""

from diffex_dagster.cli.main import main

if __name__ == "__main__":
    main()
