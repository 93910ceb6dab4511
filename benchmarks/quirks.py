"""What does each quirk of the originals do to the logits?

    python benchmarks/quirks.py [--quick] [--json FILE]

A tiny AST (stride 10, 1,024 frames, 50 classes) hears clips of synthetic sound as the authors'
program does (the `reference` profile), and again with one thing done otherwise. Its weights are
drawn so that attention is sharp and every part matters, as in a trained network; a model of yours
may be given with --model (a converted checkpoint in the reference profile). Figures: the largest
difference of a logit and the root mean square of all, both over the standard deviation of a clip's
logits over the classes, and the share of clips whose best class changes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from sonoformer.encoders import AstEncoder, ast_config, with_config
from sonoformer.run import environment
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.heads import HeadConfig
from sonoformer.tasks.model import Model, load_model

RATE = 16000
LENGTHS = (10.0, 5.0, 1.0)
Change = Callable[[Model], Model]
Found = dict[str, dict[str, dict[str, float]]]


def drawn(pool: str) -> Model:
    """A model of random weights, large enough for attention to be sharp."""
    torch.manual_seed(0)
    front = FbankConfig(padding="reference", fixed_frames=1024)
    config = ast_config(
        "tiny", stride=(10, 10), table=(12, 101), table_stride=(10, 10), front=front
    )
    encoder = AstEncoder(replace(config, positions="reference"))
    names = tuple(f"class {number}" for number in range(50))
    model = Model(encoder, names, HeadConfig(pool=pool))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1 and name.endswith("weight"):
                value.normal_(0, 1 / math.sqrt(value[0].numel()))
            elif value.ndim > 1:
                value.normal_(0, 0.5)
            else:
                value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def sounds(clips: int, seconds: float) -> Tensor:
    """`(clips, samples)`: tones that glide over noise, at levels from -30 to -10 dBFS."""
    generator = torch.Generator().manual_seed(round(seconds * 100))
    draw = torch.rand(clips, 5, 1, generator=generator)
    time = torch.arange(round(seconds * RATE)) / RATE
    pitch = 200 * 2 ** (
        5 * draw[:, 0] + draw[:, 1] * torch.sin(2 * math.pi * 3 * draw[:, 2] * time)
    )
    tone = torch.sin(2 * math.pi * pitch.cumsum(1) / RATE)
    noise = torch.randn(clips, len(time), generator=generator)
    level = 10 ** (-1.5 + draw[:, 3])
    return level * (tone * (time % 1 < 0.2 + 0.6 * draw[:, 4]) + 0.1 * noise)


def changed(model: Model, **changes: object) -> Model:
    """The model with other settings of its encoder."""
    made = Model(
        with_config(cast(AstEncoder, model.encoder), **changes),
        model.classes,
        model.config,
    )
    made.head.load_state_dict(model.head.state_dict())
    return made.eval()


def hearing(model: Model, **changes: object) -> Model:
    """The model with another front end."""
    return changed(model, front=replace(model.front, **changes))  # type: ignore[arg-type]


def epsilon(model: Model, blocks: float | None = None, head: float | None = None) -> Model:
    """The model with other epsilons in its norms."""
    made = changed(model) if blocks is None else changed(model, norm_eps=blocks)
    if head is not None:
        for part in made.head.modules():
            if isinstance(part, nn.LayerNorm):
                part.eps = head
    return made


def pooled(model: Model) -> Model:
    """The model with the other pooling under the same head."""
    other = "cls" if model.config.pool == "mean" else "mean"
    made = Model(model.encoder, model.classes, replace(model.config, pool=other))  # type: ignore[arg-type]
    made.head.load_state_dict(model.head.state_dict())
    return made.eval()


CHANGES: dict[str, Change] = {
    "padding is not attended to (our default)": lambda m: hearing(
        m, padding="mask", fixed_frames=None
    ),
    "padding is the mean, attended to (SUPERB)": lambda m: hearing(m, padding="mask"),
    "no pre-emphasis": lambda m: hearing(m, preemphasis=0.0),
    "Hamming window (as the paper says)": lambda m: hearing(m, window="hamming"),
    "ESC-50's constants instead of AudioSet's": lambda m: hearing(m, mean=-6.6268077, std=5.358466),
    "epsilon 1e-12 in all norms (transformers)": lambda m: epsilon(m, 1e-12, 1e-12),
    "epsilon 1e-5 in all norms": lambda m: epsilon(m, 1e-5, 1e-5),
    "epsilon of the head 1e-6 instead of 1e-5": lambda m: epsilon(m, None, 1e-6),
    "the other pooling under the same head": pooled,
}
TABLES: dict[str, Change] = {
    "positions by seconds (our default)": lambda m: changed(m, positions="seconds"),
}


def compare(here: Tensor, there: Tensor) -> dict[str, float]:
    """Figures of two tables of logits `(clips, classes)`."""
    gap, spread = here - there, here.std(1).mean()
    return {
        "largest": float(gap.abs().max() / spread),
        "rms": float(gap.square().mean().sqrt() / spread),
        "best class changes": float((here.argmax(1) != there.argmax(1)).float().mean()),
    }


@torch.inference_mode()
def run(model: Model, clips: int, lengths: tuple[float, ...]) -> Found:
    """Change -> length of the clips -> figures."""
    found: Found = {}
    for seconds in lengths:
        waves = sounds(clips, seconds)
        # For positions: the table of a pretraining (8 x 64, stride 16), read for this length.
        other = _pretrained(model, round(seconds * 100))
        for start, changes in ((model, CHANGES), (other, TABLES)):
            here = start.logits(waves)
            for name, change in changes.items():
                figures = compare(here, change(start).logits(waves))
                found.setdefault(name, {})[f"{seconds:g} s"] = figures
    return found


def _pretrained(model: Model, frames: int) -> Model:
    config = replace(
        cast(AstEncoder, model.encoder).config,
        front=replace(model.front, fixed_frames=frames),
        table=(8, 64),
        table_stride=(16, 16),
    )
    encoder = AstEncoder(config)
    state = {n: v for n, v in model.encoder.state_dict().items() if n != "pos_embed"}
    encoder.load_state_dict(state, strict=False)
    with torch.no_grad():
        encoder.pos_embed.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
    made = Model(encoder, model.classes, model.config)
    made.head.load_state_dict(model.head.state_dict())
    return made.eval()


def show(found: Found) -> None:
    print("largest, rms (of the deviation of logits over classes), best class changes")
    lengths = next(iter(found.values()))
    print(f"{'':48}{''.join(f'{length:>24}' for length in lengths)}")
    for name, by_length in found.items():
        cells = (
            f"{f['largest']:9.2g} {f['rms']:8.2g} {f['best class changes']:5.0%}"
            for f in by_length.values()
        )
        print(f"{name:48}{''.join(cells)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer clips")
    parser.add_argument(
        "--model", type=Path, help="a converted checkpoint instead of the drawn one"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = load_model(options.model) if options.model else drawn("mean")
    found = run(model, *((4, LENGTHS[::2]) if options.quick else (24, LENGTHS)))
    show(found)
    if options.json:
        result = {"changes": found, "environment": environment()}
        options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
