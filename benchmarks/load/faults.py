"""What goes wrong in production, done on purpose to a running cluster while it is asked."""

import asyncio
import os
import random
import signal
import struct
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from load.senders import Sender
from sum3dcam.client.http import PATH
from sum3dcam.client.settings import API_KEY_HEADER
from sum3dcam.serving import cluster, keeper, proxy, readiness, torchserve
from sum3dcam.serving.cluster import Cluster
from sum3dcam.serving.proxy import Limits
from sum3dcam.serving.torchserve import Server

DECODER = "sum3dcam.video.isolation.process"
SLOW_CLIENTS = 20


class FaultError(Exception):
    """A fault that was answered as it should not have been."""


@dataclass(frozen=True)
class Subject:
    """The cluster that runs from `run_dir`, and ways to ask it. `good` is a video that it answers."""

    run_dir: Path
    host: str
    http_port: int
    api_key: str
    limits: Limits
    senders: Sequence[Sender]
    good: bytes
    chance: random.Random

    def servers(self) -> list[Server]:
        """The instances that run."""
        found = (torchserve.load(self.run_dir / name) for name in cluster.INSTANCES)
        return [server for server in found if server is not None]

    def is_whole(self) -> bool:
        servers = self.servers()
        return len(servers) == len(cluster.INSTANCES) and all(
            keeper.is_ready(keeper.upstream(server.ports)) for server in servers
        )

    def cluster(self) -> Cluster:
        running = cluster.load(self.run_dir)
        if running is None:
            raise FaultError("the cluster itself has ended")
        return running

    def child(self, marker: Path) -> psutil.Process:
        """The process of the cluster that has this path in its command."""
        children = psutil.Process(self.cluster().pid).children()
        return next(one for one in children if any(str(marker) in word for word in one.cmdline()))


Fault = Callable[[Subject], Awaitable[Mapping[str, Any]]]


async def kill_worker(subject: Subject) -> Mapping[str, Any]:
    victim = subject.chance.choice(readiness.workers(subject.chance.choice(subject.servers())))
    os.kill(victim.pid, signal.SIGKILL)
    return {"model": victim.model}


async def end_instance(subject: Subject) -> Mapping[str, Any]:
    """SIGTERM, as for an update: it gives its last answers."""
    server = subject.chance.choice(subject.servers())
    subject.child(server.run_dir).terminate()
    while torchserve.is_running(server):
        await asyncio.sleep(0.2)
    return {"instance": server.run_dir.name}


async def kill_instance(subject: Subject) -> Mapping[str, Any]:
    """SIGKILL of all its processes at once, as when a machine goes."""
    server = subject.chance.choice(subject.servers())
    launcher, front_end = subject.child(server.run_dir), psutil.Process(server.pid)
    for process in [launcher, front_end, *front_end.children(recursive=True)]:
        process.kill()
    return {"instance": server.run_dir.name}


async def kill_front_end(subject: Subject) -> Mapping[str, Any]:
    """SIGKILL of the Java process alone: its workers and its launcher have to notice."""
    server = subject.chance.choice(subject.servers())
    os.kill(server.pid, signal.SIGKILL)
    return {"instance": server.run_dir.name}


async def kill_proxy(subject: Subject) -> Mapping[str, Any]:
    subject.child(subject.run_dir / proxy.TEMPLATES[subject.cluster().proxy]).kill()
    return {}


async def kill_decoders(subject: Subject) -> Mapping[str, Any]:
    """Those of all instances: a file that they are at is answered as one that crashed its decoder."""
    victims = decoders(subject.servers())
    for process in victims:
        process.kill()
    return {"processes": len(victims)}


def decoders(servers: Sequence[Server]) -> list[psutil.Process]:
    return [
        process
        for server in servers
        for process in psutil.Process(server.pid).children(recursive=True)
        if DECODER in process.cmdline()
    ]


async def send_hostile_files(subject: Subject) -> Mapping[str, Any]:
    """Each gets its own error, the same over every sender."""
    files = {
        "unreadable_media": [b"this is not a video\n" * 50, subject.good[: len(subject.good) // 2]],
        "too_large": [_png(side_px=10_000)],
        "empty_body": [b""],
    }
    for code, bodies in files.items():
        for body in bodies:
            for sender in subject.senders:
                _expect(code, (await sender.send(body, {})).code)
    return {"files": sum(len(bodies) for bodies in files.values())}


async def send_oversize(subject: Subject) -> Mapping[str, Any]:
    """One byte beyond the limit. An edge that answers at once may close on a client that is still sending."""
    codes = [(await sender.send(bytes(subject.limits.request_bytes + 1), {})).code for sender in subject.senders]
    for code in codes:
        if code not in ("too_large", "BrokenPipeError", "ConnectionResetError") and not code.startswith("gRPC"):
            raise FaultError(f"a request beyond the limit was answered with {code}")
    return {"codes": sorted(set(codes))}


async def stall_clients(subject: Subject) -> Mapping[str, Any]:
    """Clients that stop in the middle of a request; the edge lets them go."""
    head = (
        f"POST {PATH}?model_name=none HTTP/1.1\r\nhost: edge\r\n{API_KEY_HEADER}: {subject.api_key}\r\n"
        "content-type: application/octet-stream\r\ncontent-length: 1000000\r\n\r\n"
    )

    async def stall() -> float:
        reader, writer = await asyncio.open_connection(subject.host, subject.http_port)
        try:
            writer.write(head.encode() + bytes(1000))
            await writer.drain()
            began = time.monotonic()
            async with asyncio.timeout(3 * subject.limits.client_seconds):
                await reader.read()
            return time.monotonic() - began
        finally:
            writer.close()

    try:
        seconds = await asyncio.gather(*(stall() for _ in range(SLOW_CLIENTS)))
    except TimeoutError as error:
        raise FaultError("a client that stalls is kept") from error
    return {"let_go_after_seconds": max(seconds)}


FAULTS: Mapping[str, Fault] = {
    "worker killed": kill_worker,
    "hostile files": send_hostile_files,
    "instance ended": end_instance,
    "oversize": send_oversize,
    "instance killed": kill_instance,
    "slow clients": stall_clients,
    "decoders killed": kill_decoders,
    "front end killed": kill_front_end,
    "proxy killed": kill_proxy,
}


def _expect(wanted: str, got: str) -> None:
    if got != wanted:
        raise FaultError(f"a hostile file was answered with {got}, not {wanted}")


def _png(*, side_px: int) -> bytes:
    """A black picture, one bit a pixel: some kilobytes, whatever its size."""
    rows = zlib.compress(bytes(side_px * (1 + (side_px + 7) // 8)))
    header = struct.pack(">IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    )
