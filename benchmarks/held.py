"""How much memory this process holds. Imports only the standard library, as it is read in other environments too."""

import contextlib
import pathlib
import resource
import sys


def now() -> int:
    """Return the bytes that are held now, and let the peak begin here; where the system cannot do that, the peak."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _field("VmRSS")


def at_peak() -> int:
    """Return the most bytes that were held."""
    return _field("VmHWM")


def _field(name: str) -> int:
    # On Linux `getrusage` would not do: its peak begins with what the program held that started this one.
    try:
        status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024
