"""`python -m diffex_dagster.cli`, as `diffex` and `python -m diffex_dagster`."""

from diffex_dagster.cli.main import main

if __name__ == "__main__":
    main()
