"""The `infoplane` command."""
