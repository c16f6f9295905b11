"""The launcher, the settings, the registry of patched names, and ss."""
