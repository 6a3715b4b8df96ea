"""From texts and labels to logits: plan, batch, run, restore."""
