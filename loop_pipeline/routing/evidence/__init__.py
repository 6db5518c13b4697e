"""From the store to the rows that policies rest on."""
