"""What wattfill raises: each error is also the builtin that a Python programmer would catch."""


class WattfillError(Exception):
    """Base of every error that wattfill raises on purpose."""


class InputError(WattfillError, ValueError):
    """A value that breaks a rule; the message names the argument, place, value and rule."""


class InputTypeError(WattfillError, TypeError):
    """Something that is not a number where a number belongs, and the like."""


class UnknownIdError(WattfillError, KeyError):
    """An id that the registry does not have."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0]) if self.args else ""


class ConflictError(WattfillError, ValueError):
    """A change that does not go with what is there: an id twice, a group that is not empty."""


class JournalError(WattfillError, OSError):
    """A journal that cannot be read or written; the message says which file, where and why."""


class MissingExtraError(WattfillError, ImportError):
    """A part of wattfill whose libraries are missing; the message names the extra that has them."""
