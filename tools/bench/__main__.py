"""Speed and memory, each against the plain formula in the same run: ``nox -s bench``.

Times are the shortest of the repeats, which take turns with the plain formula. Where that is
timed on a part of the work and scaled up, its name says so. Memory is the largest that the whole
process holds while the code runs: resident on the CPU, allocated on CUDA. The share of the limit
is the time that the counted operations, or the bytes, would take at the machine's measured speed
of matrix products, or of copies, over the time taken.

The case ``learning`` is another: how good a network becomes in how much time, by two recipes.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

from bench.baselines import bench_hylfmnet, bench_vsnet
from bench.enhancement import bench_enhance
from bench.jnet import JNET_CASES
from bench.learning import Curve, bench_learning, draw
from bench.light_field import bench_adjoint, bench_projection, bench_psf, bench_update
from bench.machine import Machine, measure_machine
from bench.serenet_family import SERENET_CASES
from bench.timing import Bench, Result
from bench.two_photon import bench_two_photon
from scopekit.memory import choose_device

CASES: dict[str, Callable[[Bench], Sequence[Result | Curve]]] = {
    "psf": bench_psf,
    "projection": bench_projection,
    "adjoint": bench_adjoint,
    "update": bench_update,
    **SERENET_CASES,
    "hylfmnet": bench_hylfmnet,
    "vsnet": bench_vsnet,
    "two-photon": bench_two_photon,
    **JNET_CASES,
    "enhance": bench_enhance,
    "learning": bench_learning,
}
# Cases that only one kind of device computes.
ONLY_ON = {"psf": "cpu", "network-float16": "cuda"}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Example: nox -s bench -- reconstruct --device cuda --full --json gpu.json",
    )
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help=f"names or their beginnings, of {', '.join(CASES)}; default: all",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--full", action="store_true", help="a camera's whole field: 237 x 237 pixels a view"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="sizes that only show that the cases work"
    )
    parser.add_argument("--checkpoint", type=Path, help="weights of a serenet; default: random")
    parser.add_argument(
        "--minutes", type=float, default=5, help="of training by each recipe (default: 5)"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the learning curves")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.cases if not any(c.startswith(name) for c in CASES)]:
        parser.error(f"unknown case {', '.join(unknown)}; known are {', '.join(CASES)}")
    return chosen


def main(arguments: list[str] | None = None) -> None:
    chosen = parse(arguments)
    device = choose_device(chosen.device)
    machine = measure_machine(device, quick=chosen.tiny)
    speeds = ", ".join(f"{name} {n / 1e12:.3g}" for name, n in machine.flops.items())
    print(f"{machine.name}, {machine.threads} threads, PyTorch {torch.__version__}")
    print(f"limits: {speeds} TFLOP/s, copies {machine.bandwidth / 1e9:.0f} GB/s", flush=True)
    bench = Bench(device, machine, chosen.full, chosen.tiny, chosen.checkpoint, chosen.minutes)
    results: list[Result | Curve] = []
    for name, case in CASES.items():
        if chosen.cases and not name.startswith(tuple(chosen.cases)):
            continue
        if ONLY_ON.get(name, device.type) != device.type:
            print(f"{name}: only on {ONLY_ON[name]}")
            continue
        for result in case(bench):
            results.append(result)
            print(result, flush=True)
            if chosen.json:
                write(chosen.json, machine, results)
    curves = [result for result in results if isinstance(result, Curve)]
    if chosen.picture and curves:
        draw(chosen.picture, curves)


def write(path: Path, machine: Machine, results: Sequence[Result | Curve]) -> None:
    """Write what is there so far: a run that is cut off leaves its numbers."""
    content = {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "machine": asdict(machine),
        "results": [asdict(result) for result in results],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
