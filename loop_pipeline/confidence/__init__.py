"""How sure an answerer is of an answer, and what may be promised of the answers it is sure of."""
