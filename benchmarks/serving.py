"""Loads a server over HTTP and gRPC: SingleStream, Server and Offline in MLPerf's words, latency against load.

    python benchmarks/serving.py --start model_store/resnext-mini.mar
    python benchmarks/serving.py --url http://127.0.0.1:8080 --grpc 127.0.0.1:7070 --model resnext-mini

With --start the same run measures what the server's parts cost: a model that does nothing (the hop), and the predictor
in this process (decode, compute, encode, and the throughput that the server's is held against).
"""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from load.gate import WrongAnswerError
from load.inprocess import InProcess, unpacked
from load.inputs import NPY, PAYLOADS, VIDEO, make_inputs
from load.measure import LOADS, Plan, measure, no_findings
from load.pictures import write_pictures
from load.results import dumps
from load.senders import GRPC, HTTP, SENDERS
from load.server import Target, started
from load.tables import serving_tables
from origin import origin
from rich.console import Console

from sum3dcam.client.connection import Connection, connect
from sum3dcam.client.settings import DEFAULT_MODEL
from sum3dcam.contract import Card

# Of a model whose card is not at hand: any clip makes it say what it is.
PROBE = {"num_frames": 16, "size_px": 112}
PACKAGES = ("sum3dcam", "torchserve", "onnxruntime", "onnxruntime-gpu", "numpy", "av", "httpx", "grpcio")


@click.command(context_settings={"show_default": True})
@click.option(
    "--start", "archive", type=click.Path(exists=True, path_type=Path), help="Start TorchServe with this .mar."
)
@click.option("--url", help="HTTP address of a server or load balancer that runs already.")
@click.option("--grpc", "address", metavar="HOST:PORT", help="Its gRPC address.")
@click.option("--model", default=DEFAULT_MODEL, help="Name under which it serves the model.")
@click.option("--payload", "payloads", multiple=True, default=("labels", "maps"), type=click.Choice(list(PAYLOADS)))
@click.option("--input", "kinds", multiple=True, default=(VIDEO, NPY), type=click.Choice([VIDEO, NPY]))
@click.option("--transport", "transports", multiple=True, default=(HTTP, GRPC), type=click.Choice(list(SENDERS)))
@click.option(
    "--load",
    "loads",
    multiple=True,
    default=tuple(LOADS),
    type=click.Choice(list(LOADS)),
    help="Open loops, with the first payload and input.",
)
@click.option("--bound-ms", default=250.0, type=click.FloatRange(1), help="A later answer is no good one.")
@click.option("--clients", default=16, type=click.IntRange(1, 1024), help="Of the closed loops that find a throughput.")
@click.option("--seconds", default=4.0, type=click.FloatRange(0.5, 600), help="Of a closed loop's window.")
@click.option("--load-seconds", default=10.0, type=click.FloatRange(1, 600), help="Of an open loop.")
@click.option("--rounds", default=3, type=click.IntRange(1, 100), help="Of the interleaved throughputs.")
@click.option("--server-steps", default=5, type=click.IntRange(1, 20), help="Halvings in the search for Server's rate.")
@click.option("--minutes", default=20.0, type=click.FloatRange(0.1, 600), help="Give up after so long.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/bench/serving.json"))
def main(
    archive: Path | None,
    url: str | None,
    address: str | None,
    model: str,
    payloads: tuple[str, ...],
    kinds: tuple[str, ...],
    transports: tuple[str, ...],
    minutes: float,
    output: Path,
    bound_ms: float,
    **how: Any,
) -> None:
    """Tables, pictures and a JSON file of what a server does under load, after its answers have proved right."""
    addresses = {transport: where for transport, where in ((HTTP, url), (GRPC, address)) if where}
    if (archive is None) == (not addresses):
        raise click.UsageError("Give either --start or the addresses of a server (--url, --grpc).")
    load_before = os.getloadavg()
    with _started(archive, payloads) if archive else _running(addresses, model) as (target, card, here):
        plan = Plan(
            transports=[transport for transport in transports if transport in target.addresses],
            payloads=payloads,
            inputs=[make_inputs(kind, **card) for kind in kinds],
            bound_seconds=bound_ms / 1000,
            **how,
        )
        name = target.server.models[0] if target.server else model
        found, complete = no_findings(), True
        try:
            measuring = measure(target, plan, model=name, here=here, found=found)
            asyncio.run(asyncio.wait_for(measuring, minutes * 60))
        except WrongAnswerError as error:
            raise click.ClickException(str(error)) from error
        except TimeoutError:
            complete = False
        report = {
            **origin(PACKAGES),
            "load_average_before": load_before,
            "model": name,
            "clip": card,
            "server": {"started_here": archive is not None, "config": dict(target.config)},
            "plan": {"clients": plan.clients, "rounds": plan.rounds, "bound_seconds": plan.bound_seconds},
            "complete": complete,
            "serving": found,
        }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(dumps(report))
    console = Console(width=max(Console().width, 130))
    for table in serving_tables(report):
        console.print(table)
    write_pictures(report, output.with_suffix(".png"))
    if not complete:
        raise click.ClickException(f"not done after {minutes:g} minutes (--minutes); what was measured is kept")


Setup = tuple[Target, dict[str, int], InProcess | None]


@contextmanager
def _started(archive: Path, payloads: Sequence[str]) -> Iterator[Setup]:
    with unpacked(archive) as here:
        card = _clip(here.explain.card)
        data = make_inputs(NPY, **card).data(0)
        replies = {
            PAYLOADS[payload].get("explain", "none"): here.answer([data], PAYLOADS[payload])[0] for payload in payloads
        }
        with started(archive, replies=replies) as target:
            yield target, card, here


def _clip(card: Card) -> dict[str, int]:
    return {"num_frames": card.num_frames, "size_px": card.size_px}


@contextmanager
def _running(addresses: Mapping[str, str], model: str) -> Iterator[Setup]:
    over = {"urls": (addresses[HTTP],)} if HTTP in addresses else {"addresses": (addresses[GRPC],)}
    with connect(Connection(**over, model=model, timeout=60)) as client:
        said = client.predict(make_inputs(VIDEO, **PROBE).data(0)).model
    yield Target(addresses), {key: said[key] for key in ("num_frames", "size_px")}, None


if __name__ == "__main__":
    main()
