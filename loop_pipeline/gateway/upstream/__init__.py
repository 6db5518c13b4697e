"""Our own way to an upstream: HTTP/1.1 on kept connections, and nothing that a gateway has not."""
