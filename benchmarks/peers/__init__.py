"""The libraries users come from, in an environment of their own."""
