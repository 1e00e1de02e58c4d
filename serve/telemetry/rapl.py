"""The energy that the processors' packages used, from RAPL's counters in sysfs.

Linux: Documentation/power/powercap/powercap.rst. AMD's processors have the same files.
"""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class Rapl:
    """The counters of all packages, added up since this object was made.

    `absent`: why there is no energy, None where there is. A counter starts again from zero at its
    range; between two samples it never does so twice.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self.absent: str | None = None
        self._used_uj = 0
        self._last: dict[Path, int] = {}
        self._range: dict[Path, int] = {}
        packages = [zone for zone in sorted(folder.glob("intel-rapl:*")) if _is_package(zone)]
        if not packages:
            self.absent = "this machine shows no RAPL counters"
        for zone in packages:
            file = zone / "energy_uj"
            try:
                self._last[file] = int(file.read_bytes())
                self._range[file] = int((zone / "max_energy_range_uj").read_bytes())
            except (OSError, ValueError) as error:
                self._fail(error)

    def read_joules(self) -> float | None:
        """Joules since the beginning; None if any package's counter can't be read."""
        if self.absent is not None:
            return None
        for file, last in self._last.items():
            try:
                now = int(file.read_bytes())
            except (OSError, ValueError) as error:
                self._fail(error)
                return None
            self._used_uj += now - last if now >= last else now + self._range[file] - last
            self._last[file] = now
        return self._used_uj / 1e6

    def _fail(self, error: OSError | ValueError) -> None:
        reason = error.strerror if isinstance(error, OSError) else "no number"
        self.absent = f"RAPL's counters can't be read ({reason})"


def _is_package(zone: Path) -> bool:
    """Other zones are parts of a package, or the platform, which holds the packages."""
    try:
        return (zone / "name").read_text(encoding="ascii").startswith("package")
    except (OSError, ValueError):
        return False
