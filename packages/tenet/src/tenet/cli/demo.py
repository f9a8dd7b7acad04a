"""``tenet demo``."""

from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import Device, DeviceOption, OverwriteOption, SeedOption


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("tenet_demo"),
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
) -> None:
    """Make a phantom, image it, enhance the image, and show all beside the truth.

    The network is small and ships with this package; tenet pretrain demo made it.

    Example: **tenet demo --out tenet_demo**
    """
    from scopekit.memory import choose_device
    from scopekit.outputs import claimed
    from tenet.demo import run_demo

    with claimed(out / "demo"):
        scores = run_demo(out, choose_device(device.value), seed=seed, overwrite=overwrite)
    for name, score in scores.items():
        print(f"{name}: IoU {score['iou']:.3f}, volume error {100 * score['volume_error']:+.1f} %")
    print(f"picture: {out / 'demo.png'}")
