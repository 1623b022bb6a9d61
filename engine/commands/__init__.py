"""The commands of the CLI, one file per subject."""
