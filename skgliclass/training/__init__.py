"""From examples to trained weights: one loop, its steps and losses."""
