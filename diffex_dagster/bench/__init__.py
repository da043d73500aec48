"""Benchmarks: how fast the editor is, how many edits the search saves, and how right its answers are."""
