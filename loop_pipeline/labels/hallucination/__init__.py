"""Whether an answer says what its request does not support: contract first, then wording."""
