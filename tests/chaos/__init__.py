"""Trying to break it: every trial is refused by name, or survived with the same result; none is silent or bare."""
