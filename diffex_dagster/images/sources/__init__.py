"""Where sample images come from: one file a kind, see `kinds`."""
