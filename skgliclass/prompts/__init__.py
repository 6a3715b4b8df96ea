"""What a model reads: tokens, markers, where each piece goes and what fits; without torch."""
