"""From names and files to a loaded model with its tokenizers."""
