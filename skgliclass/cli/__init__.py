"""The commands, one module each; none imports torch before it has to."""
