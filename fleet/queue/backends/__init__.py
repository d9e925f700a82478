"""One file a server; `open_backend` picks it by the DSN or the connection."""
