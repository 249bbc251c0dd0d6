"""The one error of this package: the machine or the configuration is not as needed, and a person can mend it."""


class EnvironmentProblem(Exception):
    """Raised when something outside the code is wrong; its text is one line: what is wrong and what to do."""
