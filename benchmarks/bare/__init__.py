"""The bare handler: the same stack as Limen, and nothing but decode, `session.run`, encode.

What Limen is compared with. It checks nothing, knows one model and one path, and gives the same answers.
"""
