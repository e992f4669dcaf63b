"""Time wattfill beside the roofline and its peers: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine
from benchmarks.cases import CASES, Effort, Figure, run
from benchmarks.peers import PEERS, Peer
from benchmarks.report import Figures, tables

SECONDS = 0.4
QUICK_SHRINK = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases that are asked for, and say, write and draw what came out."""
    args = _parsed(arguments)
    if args.show is not None:
        record = json.loads(args.show.read_text())
        figures = Figures(Figure(**figure) for figure in record["figures"])
    else:
        record = {
            "machine": machine.describe(),
            "caches": machine.caches(),
            "load": machine.load(),
        }
        figures = Figures(_measured(args))
        record["figures"] = [asdict(figure) for figure in figures.all]
    print(", ".join(f"{name} {value}" for name, value in record["machine"].items()))
    if record["load"] > machine.BUSY:
        print(
            f"The machine was busy (load {record['load']:.1f} before the run): "
            "take the ratios with care, and the times not at all."
        )
    if args.quick:
        print("Workloads were shrunk a hundredfold: this shows that it runs, not how fast.")
    print(f"\n{tables(figures)}")
    if args.json is not None:
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    if args.plot is not None:
        # Only here, so that matplotlib is not needed for the rest.
        from benchmarks.pictures import draw

        for path in draw(figures, record["caches"], args.plot):
            print(f"drawn: {path}", file=sys.stderr)
    return 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=CASES,
        default=list(CASES),
        metavar="CASE",
        help=f"of {', '.join(CASES)}",
    )
    parser.add_argument("--no-peers", action="store_true", help="time wattfill alone")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="hundredth of the size, no slow peers: to see that everything runs",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw two pictures there")
    parser.add_argument(
        "--show", type=Path, metavar="FILE", help="run nothing: show figures that --json wrote"
    )
    return parser.parse_args(arguments)


def _measured(args: argparse.Namespace) -> list[Figure]:
    peers = tuple(_found(args))
    effort = Effort(0.0, QUICK_SHRINK, peers) if args.quick else Effort(SECONDS, 1, peers)
    figures = []
    for name in args.only:
        for figure in run(name, effort):
            print(f"{figure.workload}: {figure.contender}, {figure.ns:.3g} ns", file=sys.stderr)
            figures.append(figure)
    return figures


def _found(args: argparse.Namespace) -> list[Peer]:
    """Return the peers that are wanted and installed, and say who is missing."""
    found = []
    for peer in () if args.no_peers else PEERS:
        if args.quick and peer.largest_group is not None:
            continue
        try:
            peer.load()
        except ImportError as error:
            print(f"skipped: {peer.name}, which needs {peer.needs} ({error})")
        else:
            found.append(peer)
    return found


if __name__ == "__main__":
    sys.exit(main())
