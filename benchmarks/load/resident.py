"""Resident memory of a cluster's processes over time, and whether it grows."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scipy.stats import theilslopes

from sum3dcam.serving import cluster, torchserve

MIB = 2**20
HOUR_SECONDS = 3600.0
CONFIDENCE = 0.95
# Caches and pools fill up at first.
WARM_SHARE = 0.2
# A process is told by the first of these words in its command.
ROLES: Mapping[str, str] = {
    "sum3dcam.video.isolation.process": "decoders",
    "model_service_worker": "workers",
    "org.pytorch.serve.ModelServer": "front ends",
    "sum3dcam.serving.exporter": "exporters",
    "sum3dcam.serving.": "keepers",
    "nginx": "proxy",
    "haproxy": "proxy",
}
LEFT_OVER = "left over"


@dataclass(frozen=True)
class Reading:
    """Resident MiB and number of processes by role; `at` is a reading of time.monotonic()."""

    at: float
    mib: Mapping[str, float]
    processes: Mapping[str, int]

    @property
    def total_mib(self) -> float:
        return sum(self.mib.values())


@dataclass
class Watch:
    """Readings of the cluster that runs from `run_dir`. A process that it had and nobody owns any more is left over."""

    run_dir: Path
    readings: list[Reading] = field(default_factory=list)
    _seen: dict[int, psutil.Process] = field(default_factory=dict)

    async def keep_reading(self, *, every_seconds: float) -> None:
        """Until it is cancelled."""
        while True:
            self.readings.append(await asyncio.to_thread(self.read))
            await asyncio.sleep(every_seconds)

    def read(self) -> Reading:
        family = {process.pid for process in self._family()}
        mib: Counter[str] = Counter()
        processes: Counter[str] = Counter()
        for pid, process in list(self._seen.items()):
            try:
                role = _role(process.cmdline()) if pid in family else LEFT_OVER
                resident = process.memory_info().rss / MIB
                if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                    raise psutil.NoSuchProcess(pid)
            except psutil.NoSuchProcess:
                del self._seen[pid]
                continue
            mib[role] += resident
            processes[role] += 1
        return Reading(at=time.monotonic(), mib=dict(mib), processes=dict(processes))

    def _family(self) -> list[psutil.Process]:
        """The keeper, the front ends (which detach from their launchers) and all below them."""
        running = cluster.load(self.run_dir)
        servers = [torchserve.load(self.run_dir / name) for name in cluster.INSTANCES]
        found: list[psutil.Process] = []
        for pid in [one.pid for one in (running, *servers) if one is not None]:
            try:
                process = psutil.Process(pid)
                found += [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        for process in found:
            self._seen.setdefault(process.pid, process)
        return found


def _role(command: Sequence[str]) -> str:
    line = " ".join(command)
    return next((role for sign, role in ROLES.items() if sign in line), "others")


def slopes(readings: Sequence[Reading]) -> dict[str, Any]:
    """MiB per hour in all and by role, with 95 % intervals (Theil and Sen's: restarts are outliers), once warm."""
    warm = _warm(readings)
    hours = np.array([reading.at for reading in warm]) / HOUR_SECONDS
    roles = sorted({role for reading in warm for role in reading.mib})
    series = {"all": [reading.total_mib for reading in warm]}
    series |= {role: [reading.mib.get(role, 0.0) for reading in warm] for role in roles}
    return {name: _slope(hours - hours[0], np.array(values)) for name, values in series.items()}


def _warm(readings: Sequence[Reading]) -> Sequence[Reading]:
    return readings[int(WARM_SHARE * len(readings)) :]


def _slope(hours: np.ndarray, mib: np.ndarray) -> dict[str, Any]:
    slope, intercept, low, high = theilslopes(mib, hours, alpha=CONFIDENCE)
    return {
        "mib_per_hour": float(slope),
        "interval": [float(low), float(high)],
        "median_mib": float(np.median(mib)),
        "begin_mib": float(intercept),
    }


def columns(readings: Sequence[Reading], *, began: float) -> dict[str, Any]:
    """The readings as lists: seconds since `began`, MiB and processes by role."""
    roles = sorted({role for reading in readings for role in reading.mib})
    return {
        "warm_after_seconds": round(_warm(readings)[0].at - began, 1),
        "at_seconds": [round(reading.at - began, 1) for reading in readings],
        "mib": {role: [round(reading.mib.get(role, 0.0), 1) for reading in readings] for role in roles},
        "processes": {role: [reading.processes.get(role, 0) for reading in readings] for role in roles},
    }
