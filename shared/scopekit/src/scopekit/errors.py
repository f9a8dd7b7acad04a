"""The one exception whose text is meant for the person at the microscope."""


class UserError(Exception):
    """Something the user can mend; its text is one line naming the file and the remedy."""
