"""The feature tree: proposing, reading, cleaning and editing it."""
