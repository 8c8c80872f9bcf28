"""The generated parts of `results.md`, and its figures."""
