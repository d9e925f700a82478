"""The tables: versioned .sql files that can be run by hand, and migrate.py that runs them."""
