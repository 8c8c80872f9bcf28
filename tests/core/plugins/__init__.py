"""Plugins as third parties write them: one file each, with the public names alone."""
