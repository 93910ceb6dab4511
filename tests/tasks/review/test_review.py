"""From scores to clips for a person, and from the filled table back to labels."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.audio import probe, read_native, write
from sonoformer.cli.main import main
from sonoformer.data.events import EVENTS, events
from sonoformer.data.manifest import Manifest
from sonoformer.data.strong import Truth, recordings, tells_reviewed
from sonoformer.errors import UserError
from sonoformer.files import read_json, write_json
from sonoformer.tasks.review.candidates import Candidates, read_candidates
from sonoformer.tasks.review.export import ClipConfig, export_review
from sonoformer.tasks.review.labels import labelled, merged, save
from sonoformer.tasks.review.pick import PickConfig, picked
from sonoformer.tasks.review.sheet import Answered, Question, Review, read_answers

RATE = 4000


def found(rows: list[tuple], **columns: list) -> pl.DataFrame:
    """Rows `path, start, end, score` of class owl."""
    frame = pl.DataFrame(rows, ["path", "start", "end", "score"], orient="row")
    return events(
        frame.with_columns(label=pl.lit("owl"), **{k: pl.Series(v) for k, v in columns.items()})
    )


def pick(frame: pl.DataFrame, **options: object) -> pl.DataFrame:
    return picked(frame, PickConfig(**options), 0, {})  # type: ignore[arg-type]


def windows(scores: list[float], path: str = "a.wav") -> pl.DataFrame:
    return found([(path, float(n), n + 1.0, score) for n, score in enumerate(scores)])


class TestPick:
    def test_top_and_uncertain(self) -> None:
        table = windows([0.1, 0.9, 0.52, 0.95, 0.3, 0.2, 0.45])
        assert pick(table, pick="top", per_class=2)["score"].to_list() == [0.95, 0.9]
        assert pick(table, per_class=2)["score"].to_list() == [0.52, 0.45]
        assert pick(table, per_class=1, threshold=0.25)["score"][0] in (0.2, 0.3)

    def test_neighbouring_windows_of_one_event_are_asked_once(self) -> None:
        table = windows([0.1, 0.8, 0.9, 0.7, 0.1, 0.6])
        assert pick(table, pick="top")["start"].to_list() == [2.0, 5.0, 0.0]
        other = pl.concat([table, windows([0.85, 0.1], "b.wav")])
        assert pick(other, pick="top", per_class=2)["path"].to_list() == ["a.wav", "b.wav"]
        both = table.with_columns(channel=pl.Series([0, 0, 0, 1, 1, 1]))
        assert pick(both, pick="top", per_class=2)["start"].to_list() == [2.0, 3.0]

    def test_strata_come_in_turn(self) -> None:
        rng = np.random.default_rng(0)
        scores = np.concatenate([rng.uniform(0, 0.2, 200), rng.uniform(0.2, 1, 40)])
        table = found([("a.wav", 2.0 * n, 2.0 * n + 1, s) for n, s in enumerate(scores)])
        chosen = pick(table, pick="stratified", per_class=20)["score"].to_numpy()
        counts = np.histogram(chosen, 5, (scores.min(), scores.max()))[0]
        assert counts.tolist() == [4, 4, 4, 4, 4]

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5), st.integers(0, 10)), max_size=30),
        st.sampled_from(["top", "uncertain", "stratified"]),
        st.integers(1, 8),
    )
    def test_never_too_many_never_twice(self, rows: list, how: str, count: int) -> None:
        table = (
            found([("a.wav", float(s), float(s + d), p / 10) for s, d, p in rows])
            if rows
            else events()
        )
        chosen = pick(table, pick=how, per_class=count)
        assert chosen.height <= count
        spans = sorted(chosen.select("start", "end").rows())
        assert all(before[1] < after[0] for before, after in pairwise(spans))
        assert chosen.equals(pick(table, pick=how, per_class=count))
        if chosen.height < count:  # then each of the others touches one that was chosen
            for start, end in table.select("start", "end").rows():
                assert any(start <= e and end >= s for s, e in spans)

    def test_bad_options(self) -> None:
        for options in ({"per_class": 0}, {"threshold": 2.0}, {"pick": "best"}):
            with pytest.raises(UserError, match=next(iter(options))):
                PickConfig(**options)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="margin"):
            ClipConfig(margin=-1)
        with pytest.raises(UserError, match="longest"):
            ClipConfig(longest=0)


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """Two recordings with a table of what a detector found in them."""
    rng = np.random.default_rng(0)
    sounds = tmp_path / "field"
    write(sounds / "a.wav", rng.normal(0, 0.1, 20 * RATE).astype(np.float32), RATE)
    stereo = np.stack([np.full(10 * RATE, 0.1), np.full(10 * RATE, -0.2)], 1).astype(np.float32)
    write(sounds / "b.wav", stereo, RATE)
    rows = [
        (str(sounds / "a.wav"), 0.5, 2.0, "owl", 0.9, 300.0, 800.0, None),
        (str(sounds / "a.wav"), 5.0, 6.0, "owl", 0.55, None, None, None),
        (str(sounds / "b.wav"), 9.0, 9.9, "owl", 0.4, None, None, 1),
        (str(sounds / "b.wav"), 1.0, 3.0, "fox/=bark", 0.7, None, None, 0),
    ]
    table = pl.DataFrame(
        rows,
        ["path", "start", "end", "label", "score", "low_hz", "high_hz", "channel"],
        orient="row",
    )
    events(table).write_csv(tmp_path / "found.csv")
    return tmp_path


def exported(field: Path, *options: str, out: str = "review") -> Path:
    run("review", "export", str(field / "found.csv"), "--out", str(field / out), *options)
    return field / out


def run(*tokens: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(list(tokens))
    assert end.value.code in (None, 0), tokens


def refused(capsys: pytest.CaptureFixture[str], *tokens: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(list(tokens))
    assert end.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def fill(
    folder: Path,
    answers: dict[int, str | tuple[str, str]],
    name: str = "review.csv",
    mark: str = ",",
) -> Path:
    """Write answers into the rows (from 0) of a sheet, as a spreadsheet would save it."""
    with (folder / "review.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for number, answer in answers.items():
        word, other = (answer, "") if isinstance(answer, str) else answer
        rows[number] |= {"answer": word, "other": other}
    with (folder / name).open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=mark, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


class TestExport:
    def test_clips_hold_the_stretch_and_a_margin(self, field: Path) -> None:
        review = Review.read(exported(field, "--pick", "top", "--margin", "0.75"))
        by_start = {(q.label, q.start): q for q in review.questions}
        assert len(by_start) == 4
        first = by_start["owl", 0.5]
        sound, rate = read_native(field / "review" / first.clip)
        assert rate == RATE
        assert len(sound) == round(2.75 * RATE)  # the recording begins half a second before
        expected = read_native(field / "field" / "a.wav", end=2.75)[0]
        np.testing.assert_allclose(sound, expected, atol=1e-4)
        last = by_start["owl", 9.0]
        assert last.channel == 1
        sound, _ = read_native(field / "review" / last.clip)
        assert len(sound) == round(1.75 * RATE)  # and ends a tenth after
        np.testing.assert_allclose(sound, -0.2, atol=1e-3)
        assert (first.low_hz, first.high_hz) == (300.0, 800.0)

    def test_sheet_and_pages(self, field: Path) -> None:
        folder = exported(field, "--clips", "wav")
        with (folder / "review.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["answer"] for row in rows] == [""] * 4
        assert all((folder / row["clip"]).is_file() for row in rows)
        assert all(Path(row["clip"]).parent == Path("clips") for row in rows)
        assert probe(folder / rows[0]["clip"]).format == "WAV"
        pages = sorted(folder.glob("review-*.html"))
        assert len(pages) == 2
        text = pages[1].read_text()
        assert text.count("<audio") == 3
        assert "✓" not in text
        assert "None" not in text

    def test_the_same_again_is_the_same_review(self, field: Path) -> None:
        first = Review.read(exported(field, "--per-class", "2"))
        again = Review.read(exported(field, "--per-class", "2", out="again"))
        assert first == again
        other = Review.read(exported(field, "--per-class", "1", out="other"))
        assert other.review != first.review

    def test_windows_of_predict(self, field: Path, capsys: pytest.CaptureFixture[str]) -> None:
        rows = [
            (str(field / "field" / "a.wav"), float(n), n + 1.0, None, n / 20, 1 - n / 20)
            for n in range(20)
        ]
        names = ["path", "start", "end", "clock", "owl", "label"]
        schema = {"clock": pl.Datetime("ms")}
        table = pl.DataFrame(rows, names, orient="row", schema_overrides=schema)
        for ending in ("csv", "parquet"):
            path = field / f"predictions.{ending}"
            table.write_csv(path) if ending == "csv" else table.write_parquet(path)
            out = field / ending
            run(
                "review",
                "export",
                str(path),
                "--out",
                str(out),
                "--per-class",
                "2",
                "--pick",
                "top",
            )
            review = Review.read(out)
            assert review.kind == "windows"
            assert [(q.label, q.start) for q in review.questions] == [
                ("owl", 19.0), ("owl", 17.0), ("label", 0.0), ("label", 2.0)
            ]  # fmt: skip
            write_json(field / f"run-{ending}" / "run.json", {"verb": "predict"})
            path.rename(field / f"run-{ending}" / path.name)
            found = read_candidates(field / f"run-{ending}")
            assert found.ours
            assert found.classes == ("owl", "label")
        said = refused(
            capsys,
            "review",
            "export",
            str(found.source),
            "--out",
            str(field / "x"),
            "--classes",
            "owll",
        )
        assert "--classes owll" in said
        assert "Did you mean 'owl'?" in said

    def test_what_is_known_is_not_asked(self, field: Path) -> None:
        (field / "known.csv").write_text(
            "path,start,end,label,negatives,reviewed\n"
            "field/a.wav,1,1.5,owl,,false\nfield/b.wav,0,10,,fox/=bark,false\n"
        )
        review = Review.read(exported(field, "--known", str(field / "known.csv")))
        assert {(q.label, q.start) for q in review.questions} == {("owl", 5.0), ("owl", 9.0)}
        (field / "known.csv").write_text("path,start,end,label,channel\nfield/b.wav,9,10,owl,1\n")
        review = Review.read(exported(field, "--known", str(field / "known.csv"), out="other"))
        assert ("owl", 9.0) not in [(q.label, q.start) for q in review.questions]

    def test_what_cannot_be_heard(self, field: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (field / "field" / "b.wav").write_bytes(b"RIFF no sound")
        review = Review.read(exported(field))
        assert {q.path for q in review.questions} == {str(field / "field" / "a.wav")}
        assert "b.wav" in (field / "review" / "problems.csv").read_text()
        (field / "field").rename(field / "moved")
        again = ("review", "export", str(field / "found.csv"), "--out", str(field / "second"))
        said = refused(capsys, *again)
        assert "2 of 2 recordings are not there" in said
        assert "--recordings" in said
        run(*again, "--recordings", str(field / "moved"), "--overwrite")
        assert Review.read(field / "second").questions[0].path.startswith(str(field / "moved"))

    def test_bad_sources(self, field: Path, capsys: pytest.CaptureFixture[str]) -> None:
        def of(source: str) -> str:
            return refused(
                capsys, "review", "export", str(field / source), "--out", str(field / "x")
            )

        assert "no such file" in of("nothing.csv")
        assert "is no run" in of("field")
        events(pl.read_csv(field / "found.csv")).drop("score").write_csv(field / "noscore.csv")
        assert "have no score" in of("noscore.csv")
        write_json(field / "empty" / "run.json", {"verb": "detect"})
        assert "holds no table of events" in of("empty")
        climbing = found([("../secret.wav", 0.0, 1.0, 0.5)])
        climbing.write_csv(field / "climbing.csv")
        assert "leaves the folder" in of("climbing.csv")
        pl.DataFrame(schema=EVENTS).write_csv(field / "none.csv")
        assert refused(
            capsys, "review", "export", str(field / "none.csv"), "--out", str(field / "x")
        )

    def test_answers_are_not_written_over(
        self, field: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = exported(field)
        exported(field, "--overwrite")
        fill(folder, {0: "yes"})
        again = ("review", "export", str(field / "found.csv"), "--out", str(folder), "--overwrite")
        assert "holds 1 answers" in refused(capsys, *again)
        (folder / "review.csv").write_text("id,answer,other\nnonsense,yes,\n")
        assert "choose another --out" in refused(capsys, *again)


class TestImport:
    def test_answers_become_labels(self, field: Path) -> None:
        folder = exported(field, "--pick", "top")
        order = [(q.label, q.start) for q in Review.read(folder).questions]
        rows = {
            order.index(("owl", 0.5)): "Confirmed",
            order.index(("owl", 5.0)): "n",
            order.index(("owl", 9.0)): ("", "hawk; wind"),
            order.index(("fox/=bark", 1.0)): "?",
        }
        fill(folder, rows, mark=";")
        run("review", "import", str(folder), "--out", str(field / "labels.csv"))
        back = Manifest.read(field / "labels.csv", separator=";")
        table = back.table.sort("start")
        assert table["start"].to_list() == [0.5, 5.0, 9.0]
        assert table["labels"].to_list() == [["owl"], [], ["hawk", "wind"]]
        assert table["negatives"].to_list() == [[], ["owl"], ["owl"]]
        assert table["reviewed"].to_list() == [False] * 3
        assert table["channel"].to_list() == [None, None, 1]
        assert table["path"][0] == str(field / "field" / "a.wav")
        # To a detector nothing is known outside the answers.
        owls = recordings(back).where(pl.col("path").str.ends_with("a.wav"))
        truth = Truth(owls, ("hawk", "owl"), np.array([20.0]))
        target, known = truth.cells(0, np.arange(21) * 1.0)
        assert np.flatnonzero(target[:, 1]).tolist() == [0, 1]
        assert np.flatnonzero(known[:, 1]).tolist() == [0, 1, 5]
        assert not known[:, 0].any()

    def test_partly_filled_and_filled_later(self, field: Path) -> None:
        folder = exported(field, "--pick", "top")
        out = ("--out", str(field / "labels.csv"))
        fill(folder, {0: "yes"})
        run("review", "import", str(folder), *out)
        assert len(Manifest.read(field / "labels.csv", separator=";")) == 1
        fill(folder, {1: "yes", 2: "no"})
        run("review", "import", str(folder / "review.csv"), *out)
        assert len(Manifest.read(field / "labels.csv", separator=";")) == 3

    def test_a_filled_table_elsewhere(
        self, field: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = exported(field)
        sheet = fill(folder, {0: "yes"}, "mine.csv")
        sheet = sheet.rename(field / "mine.csv")
        assert "--review" in refused(capsys, "review", "import", str(sheet))
        run(
            "review",
            "import",
            str(sheet),
            "--review",
            str(folder),
            "--out",
            str(field / "l.parquet"),
        )
        assert len(Manifest.read(field / "l.parquet")) == 1

    def test_moved_recordings(self, field: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = exported(field)
        fill(folder, {0: "yes"})
        (field / "field").rename(field / "moved")
        said = refused(capsys, "review", "import", str(folder))
        assert "1 of 1 recordings are not there" in said
        run("review", "import", str(folder), "--recordings", str(field / "moved"))
        back = Manifest.read(folder / "labels.csv", allow_absolute=True)
        assert back.paths[0].startswith(str(field / "moved"))

    def test_into_a_table(self, field: Path) -> None:
        """Nothing is lost, parts are inherited, and importing again changes nothing."""
        folder = exported(field, "--pick", "top")
        text = (
            "file,begin,stop,species,site,split\n"
            "field/a.wav,10,12,owl,north,test\nfield/a.wav,15,16,fox,north,test\n"
            "field/c.wav,1,2,owl,south,train\n"
        )
        (field / "labels.csv").write_text(text)
        fill(folder, {0: "yes", 1: "yes", 2: "yes", 3: "yes"})
        into = ("review", "import", str(folder), "--into", str(field / "labels.csv"))
        run(*into, "--label-column", "species", "--start-column", "begin", "--end-column", "stop")
        name = Review.read(folder).review
        assert (field / f"labels.before-{name}.csv").read_text() == text
        first = Manifest.read(field / "labels.csv", separator=";").table
        assert first.filter(pl.col("review").is_not_null()).height == 4
        own = first.filter(pl.col("path").str.ends_with("a.wav") & pl.col("review").is_not_null())
        assert own["split"].to_list() == ["test", "test"]
        assert first.filter(pl.col("site") == "south")["labels"].to_list() == [["owl"]]
        # The old recordings stay listened to from beginning to end, and new ones are not.
        whole = first.filter((pl.col("labels").list.len() == 0) & pl.col("reviewed"))
        assert sorted(Path(path).name for path in whole["path"]) == ["a.wav", "c.wav"]
        fill(folder, {0: "no"})
        run("review", "import", str(folder), "--into", str(field / "labels.csv"))
        again = Manifest.read(field / "labels.csv", separator=";").table
        assert again.height == first.height
        assert again.filter(pl.col("negatives").list.len() > 0).height == 1
        assert (field / f"labels.before-{name}.csv").read_text() == text

    def test_conflicts_are_listed(self, field: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = exported(field, "--pick", "top", "--classes", "owl")
        order = [q.start for q in Review.read(folder).questions]
        fill(folder, {order.index(0.5): "no", order.index(5.0): "yes", order.index(9.0): "yes"})
        (field / "labels.csv").write_text(
            "path,start,end,label,negatives,reviewed\n"
            "field/a.wav,0.6,1.9,owl,,true\nfield/a.wav,4,7,,owl,true\n"
        )
        capsys.readouterr()
        into = ("review", "import", str(folder), "--into", str(field / "labels.csv"))
        run(*into, "--out", str(field / "one.csv"))
        said = capsys.readouterr().out
        assert "2 conflicts, of which the table's stay" in said
        listed = (field / "one.conflicts.txt").read_text().splitlines()
        assert len(listed) == 2
        assert "owl is present by row 1" in listed[0]
        one = Manifest.read(field / "one.csv", separator=";").table
        assert one.filter(pl.col("review").is_not_null())["start"].to_list() == [9.0]
        run(*into, "--out", str(field / "two.csv"), "--prefer", "review")
        two = Manifest.read(field / "two.csv", separator=";").table
        assert two.filter(pl.col("start") == 0.6)["labels"].to_list() == [[]]
        assert two.filter(pl.col("start") == 4)["negatives"].to_list() == [[]]
        assert two.filter(pl.col("review").is_not_null()).height == 3
        assert "field/a.wav,0.6" in (field / "labels.csv").read_text()

    def test_bad_sheets(self, field: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = exported(field)
        review = Review.read(folder)
        own, sheet = review.questions[0].id, folder / "review.csv"

        def of(text: str, *options: str) -> str:
            sheet.write_text(text)
            return refused(capsys, "review", "import", str(folder), *options)

        head = "id,answer,other\n"
        assert "nothing is filled in" in of(head + f"{own},,\n")
        assert "is no question of review" in of(head + "0123456789-001,yes,\n")
        assert "'maybe' is none of" in of(head + f"{own},maybe,\n")
        assert "names no class" in of(head + f"{own},other,\n")
        assert "say other" in of(head + f"{own},yes,hawk\n")
        assert "say confirmed" in of(head + f"{own},other,{review.questions[0].label}\n")
        assert "differently" in of(head + f"{own},yes,\n{own},no,\n")
        assert "no column 'answer'" in of(f"id,other\n{own},x\n")
        assert "cut off" in of(head + f'{own},"yes,\n')
        assert "is empty" in of("")
        assert "all answers are unsure" in of(head + f"{own},unsure,\n")
        assert "must end in" in of(head + f"{own},yes,\n", "--out", str(field / "x.txt"))
        (field / "theirs.csv").write_text("path,label\nfield/a.wav,owl\n")
        assert "is not of this review" in of(
            head + f"{own},yes,\n", "--out", str(field / "theirs.csv")
        )
        said = of(head + f"{own},yes,\n", "--into", str(field / "theirs.csv"))
        assert "labels whole files" in said
        assert "no such file" in of(head + f"{own},yes,\n", "--into", str(field / "none.csv"))
        sheet.unlink()
        assert "no such file" in refused(capsys, "review", "import", str(folder))

    def test_damaged_records(self, field: Path) -> None:
        folder = exported(field)
        record = read_json(folder / "review.json")
        for change in ({"start": -1.0}, {"path": ""}, {"end": "x"}, {"label": " "}, {"what": 1}):
            bad = {**record, "questions": [{**record["questions"][0], **change}]}
            write_json(folder / "review.json", bad)
            with pytest.raises(UserError, match=r"review\.json"):
                Review.read(folder)
        (folder / "review.json").write_text("[1]")
        with pytest.raises(UserError, match=r"review\.json"):
            Review.read(folder)
        with pytest.raises(UserError, match=r"holds no review\.json"):
            Review.read(field)


def asked(number: int, start: float, end: float, label: str = "owl") -> Question:
    return Question(f"r-{number}", "", "a.wav", start, end, label, 0.5)


def test_one_stretch_confirmed_and_rejected_by_two_questions() -> None:
    answers = [
        Answered(asked(1, 1, 2), "confirmed", ()),
        Answered(asked(2, 1, 2, "fox"), "other", ("bird",)),
    ]
    paths = {"a.wav": "/a.wav"}
    (row,) = labelled(answers, paths).table.to_dicts()
    assert (row["labels"], row["negatives"], row["review"]) == (["owl", "bird"], ["fox"], "r-1 r-2")
    answers[1] = Answered(asked(2, 1, 2, "fox"), "other", ("owl",))
    assert labelled(answers, paths).table["labels"].to_list() == [["owl"]]
    answers.append(Answered(asked(3, 1, 2, "owl"), "rejected", ()))
    with pytest.raises(UserError, match="said to be there and not to be there"):
        labelled(answers, paths)


def test_unsure_in_reviewed_time_is_told() -> None:
    rows = {"path": ["/a.wav"], "labels": [["fox"]], "start": [0.0], "end": [9.0]}
    table = Manifest.of(pl.DataFrame(rows), "labels")
    answers = [
        Answered(asked(1, 1, 2), "unsure", ()),
        Answered(asked(2, 20, 21), "unsure", ()),
        Answered(asked(3, 30, 31), "confirmed", ()),
    ]
    done = merged(table, answers, {"a.wav": "/a.wav"}, Review("r", "windows"), "table")
    assert done.in_reviewed == 1
    assert len(done.manifest) == 2
    # Windows of clips say nothing of recordings from beginning to end.
    assert done.manifest.table.filter(pl.col("labels").list.len() == 0).is_empty()


def test_a_full_disk_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "labels.csv"
    out.write_text("path,label\na.wav,owl\n")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_csv", fail)
    answers = [Answered(asked(1, 1, 2), "confirmed", ())]
    with pytest.raises(UserError, match="the disk is full"):
        save(labelled(answers, {"a.wav": "/a.wav"}), out, "r")
    assert out.read_text() == "path,label\na.wav,owl\n"
    assert (tmp_path / "labels.before-r.csv").read_text() == out.read_text()


def test_long_stretches_and_odd_classes(field: Path) -> None:
    table = found([(str(field / "field" / "a.wav"), 1.0, 19.0, 0.5)]).with_columns(
        label=pl.lit("../=x")
    )
    source = Candidates("found", ("../=x",), table.lazy(), False, field, True)
    review = export_review(source, field / "odd", clips=ClipConfig(longest=3.0))
    (question,) = review.questions
    assert question.clip == "clips/001-_x.flac" or question.clip == "clips/001-x.flac"
    assert probe(field / "odd" / question.clip).duration == pytest.approx(3.0)
    assert (question.start, question.end) == (1.0, 19.0)
    assert read_answers(field / "odd" / "review.csv", review) == ([], 1)


def test_tables_tell_what_was_reviewed() -> None:
    def of(labels: list[str], negatives: list[str], reviewed: bool | None) -> bool:
        rows = {"path": ["a"], "labels": [labels], "negatives": [negatives], "reviewed": [reviewed]}
        lists = dict.fromkeys(("labels", "negatives"), pl.List(pl.String))
        schema = {**lists, "reviewed": pl.Boolean}
        return tells_reviewed(Manifest.of(pl.DataFrame(rows, schema_overrides=schema)))

    assert not of(["owl"], [], None)
    assert not of([], [], None)
    assert of([], [], True)
    assert of(["owl"], [], False)
    assert of([], ["owl"], None)
