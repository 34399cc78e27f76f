"""What a process can give up for good before it opens what strangers send."""

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

NOBODY = 65534
# Those open already stay usable.
MAX_OPEN_FILES = 16

# The system calls that computing on memory and talking over an open socket take, by architecture. Everything else
# fails with EPERM: opening files, making sockets and processes, signals and limits of others.
_CALLS: Mapping[str, Mapping[str, int]] = {
    "x86_64": {
        **{"read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10},
        **{"munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17},
        **{"sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "setitimer": 38, "getpid": 39},
        **{"sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "exit": 60, "getrusage": 98, "sysinfo": 99},
        **{"sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204, "set_tid_address": 218},
        **{"restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230},
        **{"exit_group": 231, "pselect6": 270, "ppoll": 271, "set_robust_list": 273, "getcpu": 309},
        **{"getrandom": 318, "membarrier": 324, "rseq": 334},
        **{"clone": 56, "clone3": 435, "tgkill": 234, "prlimit64": 302, "seccomp": 317},
    },
    "aarch64": {
        **{"read": 63, "write": 64, "close": 57, "fstat": 80, "lseek": 62, "mmap": 222, "mprotect": 226},
        **{"munmap": 215, "brk": 214, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "pread64": 67},
        **{"sched_yield": 124, "mremap": 216, "madvise": 233, "nanosleep": 101, "setitimer": 103, "getpid": 172},
        **{"sendto": 206, "recvfrom": 207, "sendmsg": 211, "recvmsg": 212, "exit": 93, "getrusage": 165},
        **{"sysinfo": 179, "sigaltstack": 132, "gettid": 178, "futex": 98, "sched_getaffinity": 123},
        **{"set_tid_address": 96, "restart_syscall": 128, "clock_gettime": 113, "clock_getres": 114},
        **{"clock_nanosleep": 115, "exit_group": 94, "pselect6": 72, "ppoll": 73, "set_robust_list": 99, "getcpu": 168},
        **{"getrandom": 278, "membarrier": 283, "rseq": 293},
        **{"clone": 220, "clone3": 435, "tgkill": 131, "prlimit64": 261, "seccomp": 277},
    },
}
_CONDITIONAL = ("clone", "clone3", "tgkill", "prlimit64", "seccomp")
_AUDIT_ARCH: Mapping[str, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# linux/bpf_common.h, linux/seccomp.h, linux/sched.h, linux/prctl.h
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_CLONE_THREAD = 0x00010000
_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _ALL_THREADS = 38, 1, 1


def confine(*, memory_bytes: int) -> list[str]:
    """Gives up all that this process may do beside computing on what it has and is sent; says what could be.

    Every step but the limits depends on the system: one that is refused is missing from what is returned.

    Args:
        memory_bytes: of address space, beyond what is taken by now.
    """
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_AS, _address_space_bytes() + memory_bytes),
    ):
        # A limit that is lower already is left alone.
        now = resource.getrlimit(limit)[1]
        most = most if now == resource.RLIM_INFINITY else min(most, now)
        resource.setrlimit(limit, (most, most))
    steps = {"nobody": _become_nobody, "no new privileges": _forgo_privileges, "system calls": _filter_calls}
    return ["limits", *(name for name, step in steps.items() if step())]


def limit_cpu(*, seconds: float) -> None:
    """Lets this process compute that much longer before it is killed (SIGXCPU); at most a second more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _become_nobody() -> bool:
    if os.geteuid() != 0:
        return False
    try:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    except OSError:
        return False
    return True


def _forgo_privileges() -> bool:
    return bool(ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _filter_calls() -> bool:
    """A seccomp filter on every thread; needs that new privileges have been forgone."""
    machine = platform.machine()
    if machine not in _CALLS:
        return False
    instructions = list(_instructions(machine))
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *one) for one in instructions))
    program = _Program(len(instructions), ctypes.addressof(code))
    number = ctypes.c_long(_CALLS[machine]["seccomp"])
    return bool(ctypes.CDLL(None).syscall(number, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)) == 0)


def _instructions(machine: str) -> Iterator[tuple[int, int, int, int]]:
    """The filter as (code, steps skipped where true, where false, operand)."""
    calls = _CALLS[machine]
    refuse = (_RETURN, 0, 0, _FAIL | errno.EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    yield from [(_LOAD, 0, 0, _ARCHITECTURE), (_IF_EQUAL, 1, 0, _AUDIT_ARCH[machine]), (_RETURN, 0, 0, _KILL)]
    yield (_LOAD, 0, 0, _NUMBER)
    for name, number in calls.items():
        if name not in _CONDITIONAL:
            yield from [(_IF_EQUAL, 0, 1, number), allow]
    # What glibc makes threads with first; its arguments lie where a filter cannot look, so it is told to use clone.
    yield from [(_IF_EQUAL, 0, 1, calls["clone3"]), (_RETURN, 0, 0, _FAIL | errno.ENOSYS)]
    for name, condition, operand in (
        ("clone", _IF_ANY_BIT, _CLONE_THREAD),  # a thread, not a process
        ("tgkill", _IF_EQUAL, os.getpid()),  # itself: what abort() does
        ("prlimit64", _IF_EQUAL, 0),  # its own limits
    ):
        yield (_IF_EQUAL, 0, 4, calls[name])
        yield from [(_LOAD, 0, 0, _FIRST_ARGUMENT), (condition, 0, 1, operand), allow, refuse]
    yield refuse
