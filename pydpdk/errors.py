"""One function turns a C return code into an exception; exit codes live beside it."""

from __future__ import annotations

import errno
import os
from enum import IntEnum


class Exit(IntEnum):
    """What the command line returns."""

    OK = 0
    FAILED = 1
    USAGE = 2
    HOST = 3
    DATA = 4
    THRESHOLD = 5
    INTERRUPTED = 130


class PydpdkError(Exception):
    """Anything this package refuses: the message names cause, place and next step."""

    exit = Exit.FAILED


class UsageError(PydpdkError):
    """A wrong argument or configuration."""

    exit = Exit.USAGE


class HostError(PydpdkError):
    """The host lacks something: the message has the command that mends it."""

    exit = Exit.HOST


class DataError(PydpdkError):
    """Input that is broken, missing or of another format."""

    exit = Exit.DATA


class CoreError(PydpdkError):
    """A negative errno out of the C core."""

    def __init__(self, code: int, what: str) -> None:
        name = errno.errorcode.get(code, str(code))
        super().__init__(f"{what}: {os.strerror(code)} ({name})")
        self.code = code


def check(rc: int, what: str) -> int:
    """Pass a C return value through, or raise CoreError when it is a negative errno."""
    if rc < 0:
        raise CoreError(-rc, what)
    return rc
