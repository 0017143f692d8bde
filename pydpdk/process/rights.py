"""What a process of a run may do: nothing more than it uses, and nothing after its parent died."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 1, 38, 24  # linux/prctl.h
CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
CAP_LAST = 63


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def no_new() -> None:
    """From now on nothing that this process starts can have more rights than the process itself."""
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def drop() -> None:
    """Give up all capabilities of this process for good; an ordinary user has none to give up."""
    no_new()
    for capability in range(CAP_LAST + 1):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # EPERM, EINVAL: it has not that one
    header, data = _Header(CAPABILITY_VERSION_3, 0), (_Data * 2)()
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) < 0:
        raise OSError(ctypes.get_errno(), "capset")


def child(parent: int, stage: bool) -> Callable[[], None]:
    """For Popen's preexec_fn: a terminal's Ctrl-C is for ``parent``, whose death is a SIGTERM.

    A ``stage`` has no capabilities from its first instruction on, and ends with its ring instead.
    Signals that go to a whole process group do not strike it before it can heed them.
    """

    def before_exec() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if stage:
            drop()
        else:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked to be told
            os._exit(1)

    return before_exec
