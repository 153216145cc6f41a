"""Every error Colonnade raises on purpose.

    ColonnadeError                  something a person can act on
    ├── DataError                   a party's own table cannot be used (parties/)
    ├── SettingsError               a setting is unknown, of the wrong type, or impossible
    ├── GuardError                  a configuration that leaks was refused; says why and the remedy
    ├── LayoutError                 numbers of the declared size do not fit the key
    ├── AlignmentError              the parties share too few entities to go on
    ├── CheckpointError             a checkpoint cannot be written, or does not belong to this training
    └── ProtocolError               the conversation cannot go on
        ├── LocalProtocolError      our side was about to say something out of turn
        ├── RemoteProtocolError     the other side said something out of turn or malformed
        ├── DeadlockError           every party waits and nobody has anything left to say
        └── PartyUnavailableError   a party has gone

A message says who, what was expected, what came and what to do, in one line. It never contains an
id, a feature value, a label or a key. ``str(error)`` is the sentence a person reads.
"""

from parties.errors import ColonnadeError, DataError


class SettingsError(ColonnadeError):
    """A setting is unknown, of the wrong type, or impossible."""


class GuardError(ColonnadeError):
    """A configuration that is known to leak was refused; the message gives reason and remedy."""


class GuardWarning(UserWarning):
    """What a GuardError would have said, where the settings ask for ``guard = "warn"``."""


class LayoutError(ColonnadeError):
    """Numbers of the declared size do not fit into a plaintext of this key."""


class AlignmentError(ColonnadeError):
    """The parties share too few entities to go on."""


class CheckpointError(ColonnadeError):
    """A checkpoint cannot be written, or does not belong to this training."""


class ProtocolError(ColonnadeError):
    """The conversation cannot go on."""


class LocalProtocolError(ProtocolError):
    """Our side was about to say something out of turn."""


class RemoteProtocolError(ProtocolError):
    """The other side said something out of turn, malformed or altered."""


class DeadlockError(ProtocolError):
    """Every party waits for a message and none is under way."""


class PartyUnavailableError(ProtocolError):
    """A party has gone, or did not answer in time."""


__all__ = [
    "AlignmentError",
    "CheckpointError",
    "ColonnadeError",
    "DataError",
    "DeadlockError",
    "GuardError",
    "GuardWarning",
    "LayoutError",
    "LocalProtocolError",
    "PartyUnavailableError",
    "ProtocolError",
    "RemoteProtocolError",
    "SettingsError",
]
