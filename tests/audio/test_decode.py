from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonoformer.audio.decode import TruncatedWarning, read, read_native
from sonoformer.errors import AudioError, UserError

from .conftest import Make, noise

LOSSLESS = [
    ("a.wav", "PCM_U8", 2**-7),
    ("a.wav", "PCM_16", 2**-15),
    ("a.wav", "PCM_24", 2**-23),
    ("a.wav", "PCM_32", 2**-23),
    ("a.wav", "FLOAT", 0.0),
    ("a.wav", "DOUBLE", 0.0),
    ("a.rf64", "PCM_16", 2**-15),
    ("a.flac", "PCM_16", 2**-15),
    ("a.flac", "PCM_24", 2**-23),
    ("a.aiff", "PCM_16", 2**-15),
    ("a.AIF", "PCM_24", 2**-23),
    ("a.w64", "PCM_16", 2**-15),
    ("a.caf", "PCM_16", 2**-15),
]


@pytest.mark.parametrize(("name", "subtype", "step"), LOSSLESS)
def test_lossless_formats_give_the_samples_that_were_written(
    make: Make, name: str, subtype: str, step: float
) -> None:
    x = noise(0.3, 22050, 3)
    kind = {"a.AIF": "AIFF"}.get(name)
    path = make(name, x, 22050, subtype=subtype, format=kind)
    for channel in range(3):
        got, rate = read_native(path, channel=channel)
        assert rate == 22050
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, x[:, channel], atol=step * 1.01, rtol=0)
    np.testing.assert_allclose(read_native(path)[0], x.mean(1), atol=step * 1.01 + 1e-7, rtol=0)


@pytest.mark.parametrize(("name", "rate"), [("a.ogg", 44100), ("a.mp3", 44100), ("a.opus", 48000)])
def test_lossy_formats_keep_length_place_and_level(make: Make, name: str, rate: int) -> None:
    times = np.arange(2 * rate) / rate
    x = (np.sin(2 * np.pi * 700 * times) * (times > 1) * 0.5).astype(np.float32)
    got = read(make(name, x, rate), 16000)
    assert len(got) == 32000
    assert np.abs(got[:15000]).max() < 0.02
    assert np.sqrt((got[17000:31000] ** 2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 250000])
def test_any_rate_becomes_the_one_asked_for(make: Make, rate: int) -> None:
    times = np.arange(rate) / rate
    path = make("a.wav", 0.5 * np.sin(2 * np.pi * 1000 * times), rate, subtype="FLOAT")
    got = read(path, 16000)
    assert len(got) == 16000
    want = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    np.testing.assert_allclose(got[800:-800], want[800:-800], atol=1e-4)


FILES: dict[tuple[int, str], tuple[Path, dict[int, np.ndarray]]] = {}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 96000]),
    wanted=st.sampled_from([8000, 16000, 22050, 32000]),
    kind=st.sampled_from(["wav", "flac"]),
    start=st.floats(0, 1.45),
    length=st.floats(0.0001, 1.5),
)
def test_a_slice_is_that_stretch_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    rate: int,
    wanted: int,
    kind: str,
    start: float,
    length: float,
) -> None:
    if (rate, kind) not in FILES:
        path = tmp_path_factory.mktemp("slices") / f"{rate}.{kind}"
        soundfile.write(path, noise(1.5, rate, 2, seed=rate), rate)
        FILES[rate, kind] = path, {}
    path, wholes = FILES[rate, kind]
    if wanted not in wholes:
        wholes[wanted] = read(path, wanted)
    whole = wholes[wanted]
    got = read(path, wanted, start=start, end=start + length)
    first = round(start * wanted)
    last = max(first + 1, round((start + length) * wanted))
    want = whole[first:last] if start + length < 1.5 else whole[first:]
    assert len(got) == len(want)
    np.testing.assert_allclose(got, want, atol=1e-6, rtol=0)


def test_a_slice_at_rates_without_a_common_factor(make: Make) -> None:
    path = make("a.wav", noise(3.0, 44101), 44101)
    whole = read(path, 16000)
    got = read(path, 16000, start=2.7, end=2.9)
    np.testing.assert_allclose(got, whole[43200:46400], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "rate"), [("a.ogg", 44100), ("a.mp3", 44100), ("a.opus", 48000)])
def test_a_slice_of_a_lossy_file(make: Make, name: str, rate: int) -> None:
    path = make(name, noise(6, rate, 2), rate)
    whole = read(path, 16000)
    for start in (0.0, 0.013, 1.0, 3.3333, 5.9):
        got = read(path, 16000, start=start, end=start + 0.5)
        first = round(start * 16000)
        np.testing.assert_allclose(got, whole[first : first + len(got)], atol=2e-6, rtol=0)


def test_a_slice_decodes_only_what_it_needs(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("a.wav", noise(20, 8000), 8000)
    decoded: list[int] = []
    opened: list[str] = []
    inner_read, inner_init = soundfile.SoundFile.read, soundfile.SoundFile.__init__

    def counting(self: soundfile.SoundFile, frames: int = -1, *a: object, **k: object) -> object:
        x = inner_read(self, frames, *a, **k)
        decoded.append(len(x))
        return x

    def opening(self: soundfile.SoundFile, file: str, *a: object, **k: object) -> None:
        opened.append(str(file))
        inner_init(self, file, *a, **k)

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    monkeypatch.setattr(soundfile.SoundFile, "__init__", opening)
    assert len(read(path, 16000, start=10, end=11)) == 16000
    assert 8000 <= sum(decoded) <= 8000 + 2 * 260
    assert opened == [str(path)]


def test_mix_is_the_mean_of_all_six_channels(make: Make) -> None:
    x = noise(0.2, 96000, 6)
    path = make("a.wav", x, 96000, subtype="FLOAT")
    np.testing.assert_allclose(read(path, 96000), x.mean(1), atol=1e-7)
    np.testing.assert_array_equal(read(path, 96000, channel=5), x[:, 5])


def test_a_channel_that_is_not_there(make: Make) -> None:
    path = make("a.wav", noise(0.1, 8000, 2), 8000)
    with pytest.raises(AudioError, match=r"has 2 channels \(0 to 1\); there is no channel 2"):
        read(path, 8000, channel=2)
    mono = make("m.wav", noise(0.1, 8000), 8000)
    with pytest.raises(AudioError, match=r"has 1 channel \(0\); there is no channel 1"):
        read(mono, 8000, channel=1)


@pytest.mark.parametrize("channel", [-1, "left", 1.5, True])
def test_a_channel_that_no_file_has(make: Make, channel: object) -> None:
    path = make("a.wav", noise(0.1, 8000, 2), 8000)
    with pytest.raises(UserError, match="neither 'mix' nor a number counted from 0"):
        read(path, 8000, channel=channel)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [0, -16000, 16000.5, True])
def test_a_rate_that_is_none(make: Make, rate: object) -> None:
    with pytest.raises(UserError, match="sample_rate"):
        read(make("a.wav", noise(0.1, 8000), 8000), rate)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (-1.0, None, "cannot start at -1.0 s"),
        (float("nan"), None, "cannot start at nan s"),
        (0.5, 0.5, "cannot end at 0.5 s when it starts at 0.5 s"),
        (0.5, float("nan"), "cannot end at nan s"),
        (1.0, None, "ends at 1.000 s; there is no sound from 1.000 s on"),
        (7.0, 8.0, "ends at 1.000 s; there is no sound from 7.000 s on"),
    ],
)
def test_a_stretch_that_is_not_there(make: Make, start: float, end: float, said: str) -> None:
    path = make("a.wav", noise(1.0, 8000), 8000)
    for reading in (lambda **k: read(path, 16000, **k), lambda **k: read_native(path, **k)):
        with pytest.raises(AudioError, match=said):
            reading(start=start, end=end)


def test_an_end_past_the_end_is_the_end(make: Make) -> None:
    path = make("a.wav", noise(1.0, 44100), 44100)
    np.testing.assert_array_equal(read(path, 16000, end=99.0), read(path, 16000))
    assert len(read_native(path, start=0.5, end=99.0)[0]) == 22050


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_sound_are_named_by_their_time(make: Make, value: float) -> None:
    x = noise(2.0, 8000, 2)
    x[12_000, 1] = value
    path = make("a.wav", x, 8000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: holds NaN or infinity, first at 1\.500 s"):
        read(path, 16000)
    with pytest.raises(AudioError, match=r"first at 1\.500 s"):
        read(path, 16000, start=1.2, end=1.7)
    assert len(read(path, 16000, end=1.0)) == 16000
    assert len(read(path, 16000, channel=0)) == 32000  # the other channel is sound


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 96000])
def test_one_sample(make: Make, rate: int) -> None:
    got = read(make("a.wav", np.full((1, 1), 0.5), rate, subtype="FLOAT"), 16000)
    assert 1 <= len(got) <= 2
    assert np.isfinite(got).all()


def test_silence_is_sound(make: Make) -> None:
    got = read(make("a.flac", np.zeros((44100, 2)), 44100), 16000)
    assert len(got) == 16000
    assert not got.any()


def test_floating_point_beyond_full_scale_is_kept(make: Make) -> None:
    path = make("a.wav", np.full((800, 1), 3.0), 8000, subtype="FLOAT")
    assert read(path, 8000).max() == 3.0


def test_a_cut_wav_is_read_to_its_real_end(make: Make) -> None:
    x = noise(1.0, 8000)
    path = make("a.wav", x, 8000, subtype="FLOAT")
    path.write_bytes(path.read_bytes()[: -4 * 4000])
    np.testing.assert_array_equal(read(path, 8000), x[:4000, 0])


@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
def test_a_cut_file_is_read_to_the_last_sample_and_says_so(make: Make, name: str) -> None:
    path = make(name, noise(4.0, 44100), 44100)
    whole = read_native(path)[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.warns(TruncatedWarning, match=r"the sound ends or is damaged at \d\.\d+ s"):
        got = read_native(path)[0]
    assert 2.0 < len(got) / 44100 < 3.5
    np.testing.assert_allclose(got[:-2304], whole[: len(got) - 2304], atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what lies before the fault is whole
        assert len(read(path, 16000, start=0.5, end=1.0)) == 8000
    with (
        pytest.warns(TruncatedWarning),
        pytest.raises(AudioError, match=r"ends at .* no sound from 3\.600 s on"),
    ):
        read(path, 16000, start=3.6, end=3.9)


def test_a_cut_vorbis_file_is_read_to_its_last_page(make: Make) -> None:
    path = make("a.ogg", noise(4.0, 44100), 44100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert 1.5 < len(read(path, 16000)) / 16000 < 3.5
