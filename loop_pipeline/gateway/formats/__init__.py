"""Wire formats as pure functions: bytes to `Request`, `Request` and answer to bytes."""
