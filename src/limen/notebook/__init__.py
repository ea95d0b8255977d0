"""Limen from a notebook: `limen.package` makes a package of a model in memory.

`packaged` is the way in, `originals` turns a model into a format that can be served, `functions` writes functions down as source, and
`running` keeps a server beside the notebook. Not here: what a package is and how it is judged; that is the same as on the command line.
"""
