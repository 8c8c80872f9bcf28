"""What goes wrong in a way the user can fix."""


class DemoError(Exception):
    """The message says what to do."""
