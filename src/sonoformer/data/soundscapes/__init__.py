"""Long annotated soundscapes for tests and demonstrations, generated or from real sound."""

from sonoformer.data.soundscapes.config import SoundscapeConfig
from sonoformer.data.soundscapes.making import Soundscapes, make_soundscapes
from sonoformer.data.soundscapes.voices import VOICES

__all__ = ["VOICES", "SoundscapeConfig", "Soundscapes", "make_soundscapes"]
