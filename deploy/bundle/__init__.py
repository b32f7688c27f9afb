"""The recipe of a release: one signed bundle, twice the same bytes."""
