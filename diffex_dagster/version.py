"""The version of diffex_dagster, which everything may name."""

__version__ = "0.1.0"
