"""How good an answer is: a calibrated score, and the threshold that may be promised."""
