"""The fixed held-out groups: clips that pretraining leaves out so that tasks can be tested on them.

The labelled tasks from Debian packages and the unlabelled pool are made of the same files. An
encoder pretrained on the whole pool has heard every clip that a leave-one-out table tests it on;
such a table is transductive. These groups stay out of the pool instead, and the fixed protocol of
the task suite tests on them alone. They were chosen by what they are, before anything was measured.
"""

from __future__ import annotations

import polars as pl

# Dialogues of a character go to the folds 1 and 2 in turn, so that one fold is every second.
_DIALOGUES = ("character-voices", ("2",))
# The only bank of which no clip is a byte-for-byte copy of another bank's: GeneralUser (minuet)
# and freepats share eight.
_BANK = ("instrument-families", ("fluid-soundfont-gm",))
# The two large acoustic kits whose makers have no other kit in the package.
_KITS = ("drum-hits", ("BJA_Pacific", "The Black Pearl 1.0"))
# The last 124 of 620 utterances by number; the text runs on, so that a fifth in one piece has
# fewer neighbours in training than every fifth utterance.
_UTTERANCES = ("russian-phones", tuple(f"ru_{number:04d}" for number in range(668, 845)))
# Has every phrase and shares no recording; Classic and Default share 27.
_VOICE = ("spoken-phrases", ("British",))
# Her clips were cut to 0.3 s, so the man's are the better ones to learn from.
_TALKER = ("mandarin-tones", ("woman",))

_HELD = dict((_DIALOGUES, _BANK, _KITS, _UTTERANCES, _VOICE, _TALKER))

# Groups of the pool's rows, and whole packages, that hold the same voices, kits and bank.
_POOL_GROUPS = (
    "fluid-soundfont-gm",
    *(f"hydrogen-drumkits/{kit}" for kit in _HELD["drum-hits"]),
    *(f"hedgewars-data/{voice}" for voice in _HELD["spoken-phrases"]),
    "gcin-voice/5",
)


def held_out() -> dict[str, frozenset[str]]:
    """Task -> names of its held-out folds or, for `russian-phones`, utterances (groups).

    Tasks that are not named (esc10, fsdd) share no clip with the pool.
    """
    return {name: frozenset(groups) for name, groups in _HELD.items()}


def held_paths(name: str, table: pl.DataFrame) -> set[str]:
    """Paths, as they stand in `table`, of a task's held-out clips.

    Args:
        name: a task of `held_out`; any other has none.
        table: the task's manifest, with `path`, `fold` and `group`.
    """
    names = held_out().get(name, frozenset())
    rows = pl.any_horizontal(
        pl.col(column).cast(pl.String).is_in(list(names)) for column in ("fold", "group")
    )
    return set(table.filter(rows.fill_null(False))["path"].to_list())


def held_in_pool(pool: pl.DataFrame, voices: pl.DataFrame) -> set[str]:
    """Paths, as they stand in `pool`, of all that has to stay out of pretraining.

    Whole banks, kits, voices and talkers are left out, with clips of theirs that no task uses.

    Args:
        pool: the table of `debian-pool` or `debian-small`, with `path` and `group`.
        voices: the table of `character-voices`, which alone knows the dialogues; its paths are
            compared with the pool's, so both are read the same way.
    """
    utterances = list(_HELD["russian-phones"])
    stem = pl.col("path").str.extract(r"([^/\\]+)\.\w+$")
    speech = pl.col("group").str.starts_with("festvox-ru") & stem.is_in(utterances)
    rows = pl.col("group").is_in(_POOL_GROUPS) | speech
    lines = pl.col("path").is_in(list(held_paths("character-voices", voices)))
    return set(pool.filter((rows | lines).fill_null(False))["path"].to_list())
