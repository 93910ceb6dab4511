"""A picture of a recording through every transform that a model can hear by.

    python examples/gallery.py RECORDING docs/pictures/transforms

The pictures of the documentation are of `guit_em9.flac`, a guitar chord of the Debian package
sonic-pi-samples (CC0), which `sonoformer data fetch debian-small` brings.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from sonoformer.audio import read
from sonoformer.errors import UserError
from sonoformer.spectral import FbankConfig, FrontEnd

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RATE, SECONDS = 22050, 6.0
MEL = FbankConfig(sample_rate=RATE, window_ms=46.5, n_mels=128, mean=0.0, std=0.5)
CQT = replace(MEL, transform="cqt", low_hz=55.0, n_mels=168)
TRANSFORMS = {
    "kaldi": MEL,
    "slaney": replace(MEL, transform="slaney"),
    "htk": replace(MEL, transform="htk"),
    "bark": replace(MEL, transform="bark"),
    "erb": replace(MEL, transform="erb"),
    "gammatone": replace(MEL, transform="gammatone"),
    "linear": replace(MEL, transform="linear"),
    "log": replace(MEL, transform="log", low_hz=220.0),
    "mfcc": replace(MEL, transform="mfcc", n_mels=20),
    "gfcc": replace(MEL, transform="gfcc", n_mels=20, low_hz=50.0),
    "cqt": CQT,
    "vqt": replace(CQT, transform="vqt"),
    "pcen": replace(MEL, compress="pcen"),
    "leaf": replace(MEL, transform="leaf", n_mels=64, window_ms=25.0, low_hz=60.0),
}


def picture(config: FbankConfig, wave: Tensor) -> Tensor:
    """`(frames, bins)` levels before normalisation."""
    with torch.no_grad():
        return FrontEnd(config).raw(wave.unsqueeze(0))[0][0]


def draw(name: str, levels: Tensor, path: Path) -> None:
    """A picture with time to the right and frequency upwards."""
    figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
    cepstrum = name in ("mfcc", "gfcc")
    values = levels[:, 1:] if cepstrum else levels
    low, high = torch.quantile(values.flatten()[:: max(1, values.numel() // 10**6)], Q)
    axes.imshow(
        values.T,
        aspect="auto",
        origin="lower",
        cmap="magma",
        vmin=float(low),
        vmax=float(high),
        extent=(0, SECONDS, 0, values.shape[1]),
        interpolation="nearest",
    )
    axes.set(title=name, xlabel="seconds", ylabel="coefficient" if cepstrum else "bin")
    figure.savefig(path, dpi=70)
    plt.close(figure)


Q = torch.tensor([0.3, 0.999])


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: python examples/gallery.py RECORDING FOLDER", file=sys.stderr)
        return 2
    recording, folder = Path(arguments[0]), Path(arguments[1])
    try:
        wave = torch.from_numpy(read(recording, RATE, end=SECONDS))
    except UserError as error:
        print(f"gallery: {error}", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    for name, config in TRANSFORMS.items():
        draw(name, picture(config, wave), folder / f"{name}.png")
        print(folder / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
