"""Files of every format that a museum has: good ones, which the judge sees in a SIP, and broken ones.

A module for each family; `test_matrix.py` goes through all of them.
"""
