"""The version of Limen, for modules that may not import the package root."""

__version__ = "0.1.0"
