"""`sonoformer VERB ...`: finds the verb, fills its options, reports errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple, get_type_hints

from cyclopts import App, Parameter
from cyclopts.config import Dict

import sonoformer
from sonoformer import recipes
from sonoformer.errors import UserError
from sonoformer.settings import build, merged, plain
from sonoformer.training.processes import launched, leads, rank


class Verb(NamedTuple):
    """A verb of the command line.

    Attributes:
        target: `module:function`, imported when the verb is used.
        help: one line for the list of verbs.
        config: `module:dataclass` that a recipe fills, or None for a verb without recipes.
    """

    target: str
    help: str
    config: str | None = None


VERBS = {
    "demo": Verb("sonoformer.cli.demo:demo", "See the whole road on real sound in minutes."),
    "data": Verb("sonoformer.cli.data:app", "List, fetch, check, split and pack data sets."),
    "pretrain": Verb(
        "sonoformer.cli.pretrain:pretrain",
        "Learn an encoder from recordings without labels.",
        "sonoformer.pretraining.config:PretrainConfig",
    ),
    "finetune": Verb(
        "sonoformer.cli.finetune:finetune",
        "Train a classifier from labelled recordings.",
        "sonoformer.tasks.config:FinetuneConfig",
    ),
    "probe": Verb("sonoformer.cli.probe:probe", "Judge a frozen encoder by probes over tasks."),
    "suite": Verb("sonoformer.cli.suite:suite", "Judge encoders over the task suite, in a table."),
    "evaluate": Verb("sonoformer.cli.evaluate:evaluate", "Score a model on labelled recordings."),
    "predict": Verb("sonoformer.cli.predict:predict", "Write a model's scores over recordings."),
    "detect": Verb("sonoformer.cli.detect:detect", "Find events in recordings of any length."),
    "embed": Verb("sonoformer.cli.embed:embed", "Write an encoder's features over recordings."),
    "review": Verb(
        "sonoformer.cli.review:app", "Hear what a model found, and take the answers back as labels."
    ),
    "convert": Verb(
        "sonoformer.cli.convert:convert", "Turn a published checkpoint into one of ours."
    ),
    "export": Verb("sonoformer.cli.export:export", "Write a model for another program."),
    "inspect": Verb(
        "sonoformer.cli.inspect:inspect", "Say what a recording, table, checkpoint or run holds."
    ),
}


INSTEAD = {"evaluate": ("--events", "sonoformer.cli.evaluate_events:evaluate")}
"""Flags with which a verb takes something else, and what it then is."""

TOGETHER = ("pretrain", "finetune")
"""Verbs that several processes of torchrun may work on together."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 a user's mistake, 128 + n by signal n."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    try:
        _check_processes(tokens)
        if tokens[:1] == ["finetune"] and _option(tokens, "--method") == "list":
            from sonoformer.cli.methods import list_methods

            list_methods(_option(tokens, "--init"))
            raise SystemExit(0)
        make_app(tokens)(tokens)
    except UserError as error:
        speaker = "sonoformer" if leads() else f"sonoformer (process {rank()})"
        # All stop together when they are asked to, and one of them says so.
        if leads() or error.exit_code < 128:
            print(f"{speaker}: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("sonoformer: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader of a pipe (`| head`) went away: nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _check_processes(tokens: Sequence[str]) -> None:
    if launched() > 1 and not {"--help", "-h", *TOGETHER}.intersection(tokens[:1]):
        raise UserError(
            f"torchrun: only {' and '.join(TOGETHER)} work in several processes; run the others "
            "without it"
        )


def make_app(tokens: Sequence[str] = ()) -> App:
    """The application; a `--recipe` (and `--profile`) among `tokens` gives a verb new defaults."""
    app = App(
        name="sonoformer",
        help="Learn from unlabelled sound: pretrain, adapt and use spectrogram transformers.",
        version=sonoformer.__version__,
        config=_recipe(tokens),
        default_parameter=Parameter(negative_iterable=()),  # no --empty-... beside each list
    )
    for name, verb in VERBS.items():
        flag, other = INSTEAD.get(name, (None, ""))
        target = other if tokens[:1] == [name] and flag in tokens else verb.target
        app.command(target, name=name, help=verb.help)
    return app


def _recipe(tokens: Sequence[str]) -> tuple[Dict, ...]:
    """The verb's defaults, then the recipe's options, then its profile's; flags override all.

    The defaults are given in full because a flag for one field of a nested dataclass would
    otherwise reset its other fields to that dataclass's own defaults.
    """
    verb = next((token for token in tokens if not token.startswith("-")), "")
    target = VERBS[verb].config if verb in VERBS else None
    if target is None or "--help" in tokens or "-h" in tokens:
        return ()
    module, _, attribute = target.partition(":")
    kind = getattr(import_module(module), attribute)
    mapping: dict[str, Any] = {}
    source = "the defaults"
    name, profile = _option(tokens, "--recipe"), _option(tokens, "--profile")
    if name is not None:
        mapping, source = recipes.load(name, profile)
    elif profile is not None:
        raise UserError(f"--profile {profile}: belongs to a recipe; name one by --recipe")
    values = plain(build(kind, merged(plain(kind()), mapping), source))
    # Some nested options are flags of the verb itself: --epochs, not --train.epochs.
    for field, hint in get_type_hints(kind, include_extras=True).items():
        if any(getattr(note, "name", None) == ("*",) for note in getattr(hint, "__metadata__", ())):
            values |= values.pop(field)
    return (Dict({verb: _present(values)}, source=source),)


def _present(values: dict[str, Any]) -> dict[str, Any]:
    """Without the options that are absent, which cyclopts would take for the word null."""
    return {
        name: _present(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }


def _option(tokens: Sequence[str], name: str) -> str | None:
    for here, after in zip(tokens, [*tokens[1:], ""], strict=True):
        if here == name:
            return after
        if here.startswith(f"{name}="):
            return here.removeprefix(f"{name}=")
    return None
