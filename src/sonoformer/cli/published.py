"""What a published checkpoint holds, for people."""

from __future__ import annotations

from sonoformer.encoders import SIZES, SSAMBA_SIZES, AstConfig, Published


def facts_of(found: Published) -> dict[str, str]:
    """Rows to show: sizes, tokens, hearing, head, and what was inferred or is missing."""
    config, front = found.config, found.config.front
    same = {"dim": config.dim, "depth": config.depth}
    known, blocks = SSAMBA_SIZES, f"Mamba blocks of {getattr(config, 'states', 0)} states"
    if isinstance(config, AstConfig):
        known, blocks = SIZES, f"blocks of {config.heads} heads"
        same["heads"] = config.heads
    size = next((name for name, shape in known.items() if shape == same), "own size")
    count = sum(value.numel() for value in found.encoder.values())
    high, long = config.patch
    kind = "frame" if high == front.n_mels else "patch"
    seconds = found.frames * front.hop_ms / 1000
    rows = {
        "encoder": f"{size}: width {config.dim}, {config.depth} {blocks}, {count:,} weights",
        "tokens": f"{kind} tokens of {high} bins x {long} frames, stride {config.stride[0]} x "
        f"{config.stride[1]}",
        "positions": f"{config.table[0]} x {config.table[1]} and {config.prefix} prefix tokens",
        "clips": f"{found.frames} frames of {front.n_mels} bins, {seconds:.2f} s at "
        f"{front.sample_rate} Hz",
        "normalisation": f"mean {front.mean:g}, std {front.std:g}",
        "epsilon of norms": f"{config.norm_eps:g}",
    }
    if found.head is not None:
        head = found.head
        names = ", ".join(head.classes[:5]) + (", ..." if len(head.classes) > 5 else "")
        scores = {True: "softmax", False: "sigmoid", None: "scores not said"}[head.single]
        pool = f"pools {head.pool}" if head.pool else "pooling not said"
        rows["head"] = f"{len(head.classes)} classes ({names}), {pool}, {scores}"
    if found.pretext:
        rows["pretext task"] = f"{len(found.pretext)} tensors: mask token and prediction heads"
    for number, note in enumerate(found.notes):
        rows["note" if not number else f"note {number + 1}"] = note
    if found.unsaid:
        given = "; ".join(f"--{name}: {why}" for name, why in found.unsaid.items())
        rows["to use its head, give"] = given
    return rows
