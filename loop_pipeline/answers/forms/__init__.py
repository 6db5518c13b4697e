"""What an answer says whatever form it is written in: labels, tags, JSON."""
