"""Pre-train a zero-shot model on a mixture of labelled sets."""
