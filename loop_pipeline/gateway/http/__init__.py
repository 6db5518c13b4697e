"""The gateway's HTTP side: requests in, the frontier asked, answers out."""
