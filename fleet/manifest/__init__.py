"""fleet.toml to a Manifest, or every problem at once with line and column."""
