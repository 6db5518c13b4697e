"""The JSON schema of a contract, read and checked within bounds."""
