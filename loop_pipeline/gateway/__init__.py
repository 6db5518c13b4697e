"""The gateway: applications change their ``base_url``, and every request and answer is a trace."""
