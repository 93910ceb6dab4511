"""Tensors -> a module, with every name accounted for."""

from __future__ import annotations

import torch
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

    Everything is checked first, so that sizes that a damaged file or configuration asks for take
    no memory if `module` lies on torch's meta device; it is then given memory on the CPU.

    Args:
        module: what to fill.
        tensors: name -> tensor; half-precision ones are converted.
        source: where they come from, for the message.
        ignore: prefixes of names in `tensors` that are known to have no place here.

    Raises:
        UserError: names that are missing, unknown, of another shape or kind, all listed; values
            that are not finite.
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
    kinds = [
        f"{name} holds {str(value.dtype).removeprefix('torch.')}"
        for name, value in given.items()
        if name in wanted and wanted[name].is_floating_point() and not value.is_floating_point()
    ]
    if missing or unknown or misfits or kinds:
        parts = [
            f"{title}: {_some(names)}"
            for title, names in (
                ("missing", missing), ("unknown", unknown), ("of another shape", misfits),
                ("of another kind", kinds),
            )
            if names
        ]  # fmt: skip
        raise UserError(f"{source}: the weights do not fit this model; {'; '.join(parts)}")
    odd = [name for name in wanted if not bool(torch.isfinite(_extremes(given[name])).all())]
    if odd:
        raise UserError(f"{source}: values that are not finite in {_some(odd)}")
    for part in module.modules():
        if any(value.is_meta for value in part.parameters(recurse=False)):
            part.to_empty(device="cpu", recurse=False)
    module.load_state_dict({name: given[name].to(wanted[name].dtype) for name in wanted})


def _extremes(value: Tensor) -> Tensor:
    """Least and greatest value; NaN if any is, so that no copy of the size of `value` is made."""
    if not value.numel():
        return torch.zeros(1)
    # Kinds of 8 bits have no order of their own.
    value = value.float() if value.dtype.itemsize == 1 else value
    return torch.stack(list(torch.aminmax(value)))


def _some(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
