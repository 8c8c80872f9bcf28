"""What goes wrong in a way the user can mend."""


class DemoError(Exception):
    """The message says what to do."""
