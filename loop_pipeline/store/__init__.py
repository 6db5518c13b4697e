"""Where the loop remembers."""
