"""The report: one screen and one page about a whole turn of the loop."""
