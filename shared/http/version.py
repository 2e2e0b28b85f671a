"""The version of this installation."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """The distribution's version; `0+source` when run from a checkout that is not installed."""
    try:
        return version("attain")
    except PackageNotFoundError:
        return "0+source"


VERSION = installed_version()
