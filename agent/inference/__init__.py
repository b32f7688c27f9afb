"""Running models: one small protocol, its backends, and the registry that says which files may be loaded."""
