"""Samples: rows of example data that a person brings, whatever holds them: a file, a data frame or arrays.

`sample` says what one is, `files` reads files and `frames` takes what is in memory; `cells` and `delimited` read text.
"""
