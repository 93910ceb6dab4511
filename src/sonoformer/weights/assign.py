"""Tensors -> a module, with every name accounted for."""

from __future__ import annotations

from torch import Tensor, nn

from sonoformer.errors import UserError


def assign(
    module: nn.Module,
    tensors: dict[str, Tensor],
    source: str,
    *,
    ignore: tuple[str, ...] = (),
) -> None:
    """Copy `tensors` into the parameters and buffers of `module`.

    Args:
        module: what to fill.
        tensors: name -> tensor; half-precision ones are converted.
        source: where they come from, for the message.
        ignore: prefixes of names in `tensors` that are known to have no place here.

    Raises:
        UserError: names that are missing, unknown or of another shape, all listed.
    """
    wanted = module.state_dict()
    given = {n: t for n, t in tensors.items() if not n.startswith(ignore)} if ignore else tensors
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    misfits = [
        f"{name} is {tuple(given[name].shape)}, should be {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    if missing or unknown or misfits:
        parts = [
            f"{title}: {_some(names)}"
            for title, names in (
                ("missing", missing), ("unknown", unknown), ("of another shape", misfits),
            )
            if names
        ]  # fmt: skip
        raise UserError(f"{source}: the weights do not fit this model; {'; '.join(parts)}")
    module.load_state_dict({name: given[name].to(wanted[name].dtype) for name in wanted})


def _some(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
