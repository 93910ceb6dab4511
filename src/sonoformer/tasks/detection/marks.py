"""A table of marked stretches, taken for the training of a detector, or refused."""

from __future__ import annotations

from collections.abc import Callable

from sonoformer.data.checks import SLACK
from sonoformer.data.findings import refuse_errors
from sonoformer.data.manifest import Manifest
from sonoformer.data.strong import STRETCHES, hierarchical, is_weak, recordings
from sonoformer.errors import UserError
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.detection.config import EventsConfig

_SHOWN = 5


def of_events(manifest: Manifest, config: EventsConfig, say: Callable[[str], None]) -> Manifest:
    """A row for each recording with its marks; of weak labels the rows as they are, with the
    classes that names such as `rumble/estrous` imply.

    Raises:
        UserError: marks with times, bands or labels that cannot be, or strong labels asked for
            where no row says when.
    """
    weak = is_weak(manifest)
    if config.labels == "strong" and weak:
        raise UserError(
            f"{manifest.source}: no labelled row has a start and an end, so nothing says when; "
            "name their columns by --start-column and --end-column, or pass --events.labels weak"
        )
    if config.labels == "weak" or weak:
        say("labels say what is in a clip, not when: the detector finds out by attention")
        return hierarchical(manifest)
    wrong = ("negative-time", "bad-times", "bad-band", "contradiction")
    refuse_errors([f for f in manifest.check() if f.kind in wrong], manifest.source)
    return recordings(manifest, config.reviewed)


def check_ends(clips: Clips, say: Callable[[str], None]) -> None:
    """Say which marks pass the end of their recording; they are cut there.

    Raises:
        UserError: a mark begins after the end: it is of another recording or another clock.
    """
    late = []
    rate = clips.source.sample_rate
    for number, (path, marks) in enumerate(clips.manifest.table.select("path", STRETCHES).rows()):
        seconds = int(clips.source.lengths[number]) / rate
        for mark in marks:
            if mark["labels"] and mark["start"] >= seconds:
                raise UserError(
                    f"{path}: a mark of {mark['labels'][0]!r} begins at {mark['start']:g} s, but "
                    f"the recording ends at {seconds:g} s; times are seconds from the recording's "
                    "own beginning"
                )
            if mark["labels"] and mark["end"] is not None and mark["end"] > seconds + SLACK:
                late.append(f"{path} ({mark['end']:g} s of {seconds:g})")
    if late:
        more = f" and {len(late) - _SHOWN} more" if len(late) > _SHOWN else ""
        say(
            f"warning: {len(late)} marks pass the end of their recording and are cut there: "
            f"{', '.join(late[:_SHOWN])}{more}"
        )
