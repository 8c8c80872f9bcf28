"""ssToken for ms-swift: `external_plugins: ...` in a YAML that already works; `python -m sstoken_swift` prints the
path."""
