"""Who may come in over HTTP: the host that a request means, its origin, and how the client signs in."""
