"""The stages of a study as plain functions over a store: what the Dagster assets are shells of."""
