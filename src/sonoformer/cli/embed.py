"""`sonoformer embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonoformer.audio import find
from sonoformer.cli import heard
from sonoformer.cli.options import Device, Out, Overwrite, Speed, progress_bar, say
from sonoformer.encoders import load_encoder, with_speed
from sonoformer.errors import UserError
from sonoformer.files import atomic
from sonoformer.inference import Settings, compute_table
from sonoformer.inference.features import pooled_features
from sonoformer.inference.identity import fingerprint
from sonoformer.nn.tokens import Pooling
from sonoformer.run import Run
from sonoformer.spectral.fixed import refuse_unheard
from sonoformer.training.devices import resolve_device


def embed(
    recordings: list[Path],
    /,
    *,
    encoder: Annotated[Path, Parameter(help="Run, checkpoint or weights file.")] = Path(
        "runs/pretrain"
    ),
    out: Out = Path("runs/embed"),
    settings: Annotated[Settings, Parameter(name="*")] = Settings(),
    pool: Annotated[
        Pooling,
        Parameter(
            help="mean: tokens of real sound; cls: the prefix tokens; bands: a mean over time for "
            "each frequency row; bands_std: with the standard deviation over time."
        ),
    ] = "mean",
    layer: Annotated[
        int | None,
        Parameter(help="Block, from 0, whose output is taken; the last norm's if absent."),
    ] = None,
    speed: Speed = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Write an encoder's features over recordings, a row a window, to one Parquet table.

    An interrupted run goes on where it stopped when the same command is given again.

    Example: sonoformer embed recordings/ --encoder runs/pretrain --window 5 --out runs/embed
    """
    paths = find(recordings)
    where = resolve_device(device)
    loaded = load_encoder(encoder).to(where)
    if speed is not None:
        loaded = with_speed(loaded, speed)
    if layer is not None and not 0 <= layer < loaded.depth:
        raise UserError(f"--layer {layer}: the encoder's blocks are 0 to {loaded.depth - 1}")
    refuse_unheard(loaded.front_end.config, settings.window, "window")
    again = Run.exists(out) and not overwrite
    options = {
        "encoder": str(encoder),
        "pool": pool,
        "layer": layer,
        "speed": speed,
        "settings": settings,
    }
    changeable = frozenset({"encoder", "pool", "layer", "speed", *Settings.__dataclass_fields__})
    with Run.start(
        out, "embed", options, 0, resume=again, overwrite=overwrite, may_change=changeable
    ) as run:
        with progress_bar("listening", "s of sound") as progress:
            report = compute_table(
                paths,
                pooled_features(loaded, where, pool, layer),
                loaded.sample_rate,
                settings,
                out / "parts",
                identity=f"{fingerprint(loaded)} {pool} {layer}",
                device=where,
                progress=progress,
            )
        heard.note(run, report)
        table = report.table()
        assert table is not None
        with atomic(out / "embeddings.parquet") as temporary:
            table.sink_parquet(temporary)
        windows = report.windows + report.resumed
        run.metrics({"windows": windows, "recordings": len(report.durations), "dim": loaded.dim})
        say(f"{windows} windows of {len(report.durations)} recordings, {loaded.dim} numbers each")
        say(f"wrote {out / 'embeddings.parquet'}")
