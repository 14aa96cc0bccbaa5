"""`quantbench demo-images`: the demo photos as a folder, to try the other commands on."""

from pathlib import Path
from typing import Annotated

import typer

from quantbench.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("demo-images")
    def demo_images(
        out_dir: Annotated[Path, typer.Argument(help="Folder to write to; new or empty.")],
        count: int = typer.Option(64, min=1, max=10000, help="How many crops."),
        seed: int = typer.Option(0, min=0, help="Seed of the crops; the same seed gives the same files."),
    ) -> None:
        """Write crops of the photos in scikit-image and scikit-learn as PNG files, for calibration."""
        from quantbench.demo.imgs import write_images

        paths = write_images(out_dir, count, seed)
        echo(f"{len(paths)} images in {out_dir}; next: quantbench ptq --calib-dir {out_dir}")
