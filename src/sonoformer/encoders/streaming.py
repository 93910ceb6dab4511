"""Tokens of a sound as it arrives, with the memory of one piece, however long it goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from sonoformer.encoders.ssamba import SsambaEncoder
from sonoformer.errors import UserError
from sonoformer.nn.mamba import MambaBlock, Memory
from sonoformer.nn.patches import cut, grid_of


class Stream:
    """One sound, heard in pieces of any length by an encoder that hears forward alone.

    The tokens are those that the encoder makes of the whole. What is kept between pieces is less
    than a patch of sound and, of each block, the last inputs of its convolution and its state.

    Args:
        encoder: an SSAMBA or SSAMBA2 with `directions` forward, `cls` first and one row of tokens
            (`tokens` frame), in evaluation mode.

    Raises:
        UserError: an encoder that needs what comes later.
    """

    def __init__(self, encoder: SsambaEncoder) -> None:
        reasons = _obstacles(encoder)
        if reasons:
            raise UserError(f"this encoder cannot stream: {'; '.join(reasons)}")
        self.encoder = encoder
        self._sound = torch.zeros(0)
        self._frames = torch.zeros(0, encoder.config.front.n_mels)
        self._memory: list[Memory | None] = [None] * len(encoder.blocks)
        self._count = 0
        self._positions = _positions(encoder)

    @property
    def seconds(self) -> float:
        """Where the next token begins."""
        return self._count * self.encoder.seconds_per_token

    @torch.inference_mode()
    def push(self, samples: Tensor) -> Tensor:
        """The next samples `(samples,)` -> the tokens that they complete, `(tokens, dim)`.

        Raises:
            UserError: samples of another shape.
        """
        if samples.ndim != 1:
            raise UserError(f"samples should be (samples,); got {tuple(samples.shape)}")
        self._hear(samples.float().cpu())
        pixels = self._patches()
        if not len(pixels):
            return torch.zeros(0, self.encoder.dim)
        device = self.encoder.pos_embed.device
        x = self.encoder.patch_embed(pixels[None].to(device))
        places = torch.arange(self._count, self._count + len(pixels), device=device)
        x = x + self._positions[places.clamp(max=len(self._positions) - 1)]
        begins = self._count == 0
        if begins:
            x = torch.cat([self.encoder._prefix(), x], 1)
        for number, block in enumerate(self.encoder.blocks):
            assert isinstance(block, MambaBlock)
            x, self._memory[number] = block.continued(x, self._memory[number])
        self._count += len(pixels)
        return self.encoder.norm(x)[0, int(begins) :].cpu()

    def _hear(self, samples: Tensor) -> None:
        """Samples -> frames, as far as windows are full."""
        front = self.encoder.config.front
        sound = torch.cat([self._sound, samples])
        count = max(0, (len(sound) - front.window_length) // front.hop_length + 1)
        if count:
            used = (count - 1) * front.hop_length + front.window_length
            device = self.encoder.pos_embed.device
            spec, _ = self.encoder.front(sound[None, :used].to(device))
            self._frames = torch.cat([self._frames, spec[0, :count].cpu()])
        self._sound = sound[count * front.hop_length :]

    def _patches(self) -> Tensor:
        """Frames -> pixels of the patches that are full, `(tokens, pixels)`."""
        config = self.encoder.config
        if len(self._frames) < config.patch[1]:
            return self._frames[:0]
        pixels = cut(self._frames[None], config.patch, config.stride)[0]
        self._frames = self._frames[len(pixels) * config.stride[1] :]
        return pixels


def _positions(encoder: SsambaEncoder) -> Tensor:
    """Positions by column, up to the one that holds for all later ones."""
    config = encoder.config
    cells = (config.table[1] - 1) * config.table_stride[1]
    return encoder.position_table((1, -(-cells // config.stride[1]) + 1)).detach()


def _obstacles(encoder: SsambaEncoder) -> list[str]:
    if not isinstance(encoder, SsambaEncoder):
        return ["it is no state-space encoder"]
    config = encoder.config
    front = config.front
    rows, _ = grid_of(front.n_mels, config.patch[1], config.patch, config.stride)
    checks = {
        "it hears both directions (directions: forward)": config.directions != "forward",
        "its cls token is not first (cls: first)": config.cls != "first",
        f"it has {rows} rows of tokens, one after the other (tokens: frame)": rows != 1,
        "its positions depend on the clip's length (positions: seconds)": config.positions
        != "seconds",
        "its front end does not hear frame by frame (transform: kaldi, level: keep, no "
        "fixed_frames)": front.transform != "kaldi"
        or front.level != "keep"
        or front.fixed_frames is not None
        or front.compress != "log",
    }
    return [why for why, holds in checks.items() if holds]
