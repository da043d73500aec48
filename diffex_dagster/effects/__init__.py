"""Paired effects, intervals and decisions over images. Pure numpy and scipy."""
