"""The root of the error tree and what can be wrong with a party's own table.

The whole tree is drawn in :mod:`protocol.errors`; these two stand here because code that holds raw
features may not import the protocol.
"""


class ColonnadeError(Exception):
    """Something a person can act on: who, what was expected, what came, what to do."""


class DataError(ColonnadeError):
    """A party's table cannot be used as it is; the message names the column, never a value or an id."""
