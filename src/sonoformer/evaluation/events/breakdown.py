"""Figures class by class and recording by recording."""

from __future__ import annotations

import numpy as np

from sonoformer.evaluation.events.endpoints import quantile
from sonoformer.evaluation.events.frames import by_recording
from sonoformer.evaluation.events.judged import Judged, framewise, segment_f1
from sonoformer.evaluation.events.outcomes import (
    average_precision,
    class_f1,
    f1_of,
    false_alarms_per_hour,
    macro,
    pooled_f1,
    ratio,
)
from sonoformer.evaluation.metrics import Row


def class_rows(judged: Judged) -> list[Row]:
    """A row a class: events, found events, and every figure that a class has; None if undefined."""
    answers = judged.answers
    hits, false, misses = (part[0] for part in judged.collared.counts())
    columns = {
        "precision": ratio(hits, hits + false),
        "recall": ratio(hits, hits + misses),
        "event_f1": class_f1(judged.collared)[0],
        "intersection_f1": class_f1(judged.common)[0],
        "segment_f1": segment_f1(judged)[0],
    }
    if answers.scored:
        columns["event_ap"] = average_precision(judged.common)[0]
        columns["false_alarms_per_hour"] = false_alarms_per_hour(
            judged.common, judged.scoring.recall
        )[0]
    ends = judged.ends
    for name, errors in (("onset_error", ends.onset), ("offset_error", ends.offset)):
        for suffix, share in (("", 0.5), ("_p90", 0.9)):
            columns[name + suffix] = np.array(
                [_quantile(np.abs(errors[ends.label == c]), share) for c in range(len(hits))]
            )
        # Whether ends are early or late on the whole.
        columns[name.replace("error", "bias")] = np.array(
            [_quantile(errors[ends.label == c], 0.5) for c in range(len(hits))]
        )
    if judged.frames:
        columns["frame_ap"], columns["frame_auc"] = (part[0] for part in framewise(judged))
    truths, said = answers.counts.sum(0), np.bincount(answers.said.label, minlength=len(hits))
    return [
        {
            "class": name,
            "events": int(truths[i]),
            "found": int(said[i]),
            **{key: number(values[i]) for key, values in columns.items()},
        }
        for i, name in enumerate(answers.classes)
    ]


def recording_rows(judged: Judged) -> list[Row]:
    """A row a recording, its classes pooled."""
    answers, ends = judged.answers, judged.ends
    each = np.eye(len(answers.paths))
    hits, false, misses = (part.sum(1) for part in judged.collared.counts(each))
    columns = {
        "event_f1": f1_of(hits, false, misses),
        "intersection_f1": pooled_f1(judged.common, each),
    }
    for name, errors in (("onset_error", ends.onset), ("offset_error", ends.offset)):
        columns[name] = quantile(np.abs(errors), 0.5, each[:, ends.item])
    if judged.frames:
        precision, area = by_recording(judged.frames, len(answers.classes))
        columns |= {"frame_ap": macro(precision), "frame_auc": macro(area)}
    said = np.bincount(answers.said.item, minlength=len(answers.paths))
    return [
        {
            "recording": path,
            "seconds": float(answers.lengths[i]),
            "events": int(answers.counts[i].sum()),
            "found": int(said[i]),
            "hits": int(hits[i]),
            **{key: number(values[i]) for key, values in columns.items()},
        }
        for i, path in enumerate(answers.paths)
    ]


def number(value: float) -> float | None:
    """The value, or None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def _quantile(values: np.ndarray, share: float) -> float:
    return float(quantile(values, share, np.ones((1, len(values))))[0])
