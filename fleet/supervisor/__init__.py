"""supervisord as it is: client, transport, its own parser, a private daemon."""
