"""Target measures: what an effect is measured in. Each kind owns its bounds, its words and its numbers."""
