"""Generated soundscapes: what their table says is what is in the sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoformer.audio import probe, read, write, write_blocks
from sonoformer.cli.main import main
from sonoformer.data.annotations import read_annotations
from sonoformer.data.events import check_events, events_of, reviewed_of
from sonoformer.data.manifest import Manifest
from sonoformer.data.soundscapes import VOICES, SoundscapeConfig, make_soundscapes
from sonoformer.data.soundscapes.clips import Clips, backgrounds, sounds
from sonoformer.data.soundscapes.mix import Mixer, band_power
from sonoformer.data.soundscapes.noise import weather
from sonoformer.errors import UserError

SHORT = SoundscapeConfig(minutes=0.2, rate=60)


def silence(first: int, last: int) -> np.ndarray:
    return np.zeros(last - first)


def mixed(config: SoundscapeConfig, noise, size: int | None = None, seed: int = 0):  # type: ignore[no-untyped-def]
    mixer = Mixer(config, seed, 0, noise, None)
    return np.concatenate(list(mixer.blocks(size))), mixer.rows


@pytest.mark.parametrize("name", sorted(VOICES))
@pytest.mark.parametrize("seed", range(3))
def test_voices_sound_from_end_to_end_within_their_band(name: str, seed: int) -> None:
    voice = VOICES[name]
    for rate in (voice.least_rate, 32000):
        wave, low, high = voice.make(np.random.default_rng(seed), rate)
        assert np.isfinite(wave).all()
        assert 0 < low < high <= rate / 2
        # Sound reaches the ends, to the hundredth of a second.
        edge = max(2, rate // 100)
        assert np.abs(wave[:edge]).max() > 0
        assert np.abs(wave[-edge:]).max() > 0
        inside = band_power(wave, low, high, rate) / np.mean(wave**2)
        assert inside > 0.9, inside


def test_rumbles_have_the_pitch_of_elephants() -> None:
    for seed in range(8):
        wave, low, high = VOICES["rumble"].make(np.random.default_rng(seed), 2000)
        assert 10 <= low <= high / 10 <= 35
        assert 2 <= len(wave) / 2000 <= 8


def test_events_are_zero_outside_their_endpoints_and_not_inside() -> None:
    config = SoundscapeConfig(minutes=1, rate=20, overlaps=False)
    wave, rows = mixed(config, silence)
    assert len(rows) > 5
    outside = np.ones(len(wave), bool)
    for start, end, *_ in rows:
        first, last = round(start * 16000), round(end * 16000)
        assert (first / 16000, last / 16000) == (start, end)
        assert wave[first : first + 400].any()
        assert wave[last - 400 : last].any()
        outside[first:last] = False
    assert not wave[outside].any()
    ends = [row[1] for row in rows]
    assert all(row[0] > end for row, end in zip(rows[1:], ends, strict=False))


def test_the_ratio_is_that_of_the_events_band() -> None:
    config = SoundscapeConfig(minutes=1, rate=20, overlaps=False, level_db=-60)
    noise = weather(config.noises, 3, 0, 16000, config.level_db)
    with_events, rows = mixed(config, noise, seed=3)
    for start, end, _, low, high, snr in rows:
        first, last = round(start * 16000), round(end * 16000)
        back = noise(first, last)
        event = with_events[first:last] - back
        found = band_power(event, low, high, 16000) / band_power(back, low, high, 16000)
        assert 10 * np.log10(found) == pytest.approx(snr, abs=0.05)
        assert -5 <= snr <= 20
    assert max(row[5] for row in rows) - min(row[5] for row in rows) > 5


def test_loud_events_are_lowered_and_their_ratio_says_so() -> None:
    config = SoundscapeConfig(minutes=0.5, rate=30, snr=(60, 60), level_db=-20, overlaps=False)
    wave, rows = mixed(config, weather(("rain",), 0, 0, 16000, -20))
    assert all(row[5] < 60 for row in rows)
    assert np.abs(wave).max() <= 1


def test_calls_come_by_poisson() -> None:
    config = SoundscapeConfig(minutes=20, rate=30, sample_rate=2000, voices=("bark",))
    _, rows = mixed(config, silence)
    assert 600 - 5 * 25 < len(rows) < 600 + 5 * 25
    gaps = np.diff([row[0] for row in rows])
    assert np.mean(gaps) == pytest.approx(2, rel=0.2)
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.25)  # as of an exponential
    assert (gaps < np.array([row[1] - row[0] for row in rows])[:-1]).any()  # some overlap


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_the_same_seed_gives_the_same_bytes_whatever_the_blocks(kind: str, tmp_path: Path) -> None:
    noise = weather(SHORT.noises, 7, 0, 16000, SHORT.level_db)
    contents, tables = set(), []
    for size in (4001, 16000 * 5, 10**7):
        mixer = Mixer(SHORT, 7, 0, noise, None)
        path = tmp_path / f"{size}.{kind}"
        write_blocks(path, mixer.blocks(size), 16000, frames=SHORT.samples)
        contents.add(path.read_bytes())
        tables.append(mixer.rows)
    assert len(contents) == 1
    assert tables[0] == tables[1] == tables[2]
    other, _ = mixed(SHORT, weather(SHORT.noises, 8, 0, 16000, SHORT.level_db), seed=8)
    again, _ = mixed(SHORT, noise, seed=7)
    assert not np.array_equal(other, again)


def test_noises_have_about_the_level_asked_for() -> None:
    for kinds in (("wind",), ("rain",), ("insects",), ("wind", "rain", "insects")):
        wave = weather(kinds, 0, 0, 16000, -40)(0, 20 * 16000)
        assert -46 < 10 * np.log10(np.mean(wave**2)) < -34, kinds


def test_a_folder_holds_sound_table_and_manifest(tmp_path: Path) -> None:
    config = SoundscapeConfig(minutes=0.25, files=3, rate=12)
    made = make_soundscapes(config, tmp_path, seed=1)
    assert [probe(file).duration for file in made.files] == [15.0] * 3
    assert not check_events(made.events, {str(file): 15.0 for file in made.files})[1:]
    again = read_annotations(tmp_path / "events.csv", recordings=tmp_path)
    assert again.drop("snr_db").equals(made.events.drop("snr_db"))
    assert again["snr_db"].cast(pl.Float64).to_list() == made.events["snr_db"].to_list()
    manifest = Manifest.read(tmp_path / "manifest.csv")
    columns = ["path", "start", "end", "label", "low_hz", "high_hz"]
    assert events_of(manifest).select(columns).equals(made.events.select(columns))
    assert reviewed_of(manifest)["path"].to_list() == [str(file) for file in made.files]


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """Clips of two classes with silence around, and backgrounds of another rate."""
    rng = np.random.default_rng(0)
    for name in ("dog", "cow"):
        for number in range(2):
            wave = np.zeros(12000, np.float32)
            wave[3000:7000] = 0.2 * rng.standard_normal(4000)
            write(tmp_path / f"clips/{name}/{number}.wav", wave, 8000)
    (tmp_path / "clips/cow/broken.wav").write_text("no sound")
    write(tmp_path / "clips/cow/silent.wav", np.zeros(8000, np.float32), 8000)
    for number in range(3):
        length = 22050 * (3 + 12 * number) + 17
        write(tmp_path / f"field/{number}.wav", 0.01 * rng.standard_normal(length), 22050)
    write(tmp_path / "field/short.wav", np.ones(100, np.float32), 8000)
    return tmp_path


def test_real_clips_are_placed_into_real_backgrounds(real: Path) -> None:
    config = SoundscapeConfig(
        minutes=0.75,
        sample_rate=8000,
        rate=30,
        snr=(20, 20),
        clips=real / "clips",
        backgrounds=real / "field",
        overlaps=False,
    )
    made = make_soundscapes(config, real / "out", seed=2)
    assert set(made.events["label"]) == {"dog", "cow"}
    lengths = (made.events["end"] - made.events["start"]).to_numpy()
    np.testing.assert_allclose(lengths, 0.5, atol=0.011)  # the silence was trimmed
    reasons = dict(made.problems)
    assert {Path(path).name for path in reasons} <= {"broken.wav", "silent.wav", "short.wav"}
    assert str(real / "field/short.wav") in reasons
    wave = read(made.files[0], 8000)
    outside = np.ones(len(wave), bool)
    for start, end in made.events.select("start", "end").iter_rows():
        first, last = round(start * 8000), round(end * 8000)
        outside[first:last] = False
        assert wave[first:last].std() == pytest.approx(0.1 * np.sqrt(8 / 22.05), rel=0.35)
    # Going over from one recording to the next keeps the power.
    frames = wave[: len(wave) // 400 * 400].reshape(-1, 400)[
        outside[: len(wave) // 400 * 400].reshape(-1, 400).all(1)
    ]
    assert frames.std(1).min() > 0.5 * np.median(frames.std(1))


def test_real_backgrounds_do_not_depend_on_the_stretch(real: Path) -> None:
    noise = backgrounds(real / "field", 0, 0, 8000, lambda path, reason: None)
    whole = noise(0, 400_000)
    again = backgrounds(real / "field", 0, 0, 8000, lambda path, reason: None)
    for first, last in ((390_000, 400_000), (1, 2), (79_990, 170_013), (0, 1999)):
        assert np.array_equal(again(first, last), whole[first:last])
    assert whole.std() > 0


def test_a_clip_is_cut_into_its_sounds() -> None:
    wave = np.zeros(10_000)
    wave[2050:2150] = 1.0
    wave[5000:5100] = 0.02  # 34 dB below, 285 ms after

    def lengths(trim_db: float, pause: float) -> list[int]:
        return [len(sound) for sound in sounds(wave, 10_000, trim_db, pause)]

    assert lengths(40, 1.0) == lengths(40, np.inf) == [5100 - 2000]
    assert lengths(40, 0.2) == [200, 100]
    assert lengths(30, 0.2) == [200]
    assert not sounds(np.zeros(1000), 10_000, 30, 0.2)
    assert not sounds(np.ones(99), 10_000, 30, 0.2)  # shorter than a frame


@given(
    loud=st.lists(st.booleans(), min_size=1, max_size=60).filter(any),
    pause=st.sampled_from([0.005, 0.015, 0.05, 0.2, np.inf]),
)
def test_sounds_hold_every_loud_frame_and_no_long_pause(loud: list[bool], pause: float) -> None:
    wave = np.repeat(np.where(loud, 1.0, 1e-3), 10)  # 60 dB apart, frames of 10 ms
    found = sounds(wave, 1000, 30, pause)
    inside = [np.abs(sound.reshape(-1, 10)).max(1) > 0.1 for sound in found]
    assert sum(int(part.sum()) for part in inside) == sum(loud)
    for part in inside:
        assert part[0]
        assert part[-1]
        gaps = np.diff(np.flatnonzero(part)) - 1
        assert (gaps * 0.01 <= pause).all()


def test_clips_that_cannot_be_used_are_named_and_passed_over(real: Path) -> None:
    bad: dict[str, str] = {}
    clips = Clips(real / "clips", 8000, 40, 0.5, bad.setdefault)
    drawn = [clips.draw(number, seed=0).labels[0] for number in range(30)]
    assert {"dog", "cow"} == set(drawn)
    assert {Path(path).name for path in bad} == {"broken.wav", "silent.wav"}
    for path in (real / "clips").glob("*/[01].wav"):
        path.write_text("gone")
    with pytest.raises(UserError, match="none of 50 clips could be used"):
        Clips(real / "clips", 8000, 40, 0.5, bad.setdefault).draw(0, seed=0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"minutes": 0}, "minutes: must be above 0"),
        ({"snr": (5, 0)}, "snr: must rise"),
        ({"voices": ("rumbel",)}, "'rumbel' is unknown.*Did you mean 'rumble'"),
        ({"sample_rate": 2000}, "roar needs a sample_rate of 4500 Hz"),
        ({"voices": ()}, "nothing to place"),
        ({"weather": ("snow",)}, "weather: must be of wind"),
        ({"level_db": 0}, "level_db"),
    ],
)
def test_options_are_checked(options: dict[str, object], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        SoundscapeConfig(**options)  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "soundscapes", "--out", str(tmp_path / "x"), "--minutes", "0.5", "--files"]
    words += ["2", "--seed", "3", "--snr", "-5", "20", "--voices", "rumble", "--voices", "bark"]
    words += ["--sample-rate", "2000", "--rate", "30", "--no-overlaps"]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    assert "2 files, 0.02 h" in capsys.readouterr().out
    assert set(read_annotations(tmp_path / "x/events.csv")["label"]) == {"rumble", "bark"}
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "--overwrite" in capsys.readouterr().err
