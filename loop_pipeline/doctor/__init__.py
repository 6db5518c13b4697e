"""``loop doctor``: does the router earn its keep, beside its controls?"""
