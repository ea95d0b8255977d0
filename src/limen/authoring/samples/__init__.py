"""Samples: rows of example data from a file, a data frame or arrays.

`sample` says what one is, `files` reads files and `frames` takes what is in memory; `cells` and `delimited` read text.
"""
