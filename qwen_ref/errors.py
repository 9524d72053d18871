"""The one exception of this package that a user is meant to read."""


class QwenRefError(Exception):
    """Something the user gave cannot be used. The message is one sentence: what, where, and which value."""
