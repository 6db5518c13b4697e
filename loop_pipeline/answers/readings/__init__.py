"""How a fact may be written: numbers, number words, dates, times and addresses, read to one value.

Not here: whether an answer's facts stand in its source (``answers/facts.py``).
"""
