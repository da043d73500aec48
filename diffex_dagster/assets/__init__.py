"""Dagster assets of one study: shells over the functions of `stages`, one module a stage."""
