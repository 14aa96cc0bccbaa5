"""Clips of notes for audio networks, drawn from a seed: harmonics that decay, chords of one to four, noise beneath."""

import numpy as np
from numpy.typing import NDArray

RATE = 22_050


def draw_clip(seed: int, index: int, samples: int = 43_844) -> NDArray[np.float32]:
    """Clip `index` under `seed`: mono float32 [samples] in -1..1 at 22,050 Hz, notes of MIDI 36 to 84."""
    rng = np.random.default_rng([seed, index])
    time = np.arange(samples) / RATE
    clip = rng.normal(0.0, rng.uniform(0.0005, 0.01), samples)
    start = float(rng.uniform(-0.2, 0.3))
    while start < samples / RATE:
        lasts = float(rng.uniform(0.1, 0.8))
        # Rises in 10 ms, then decays; silent before it starts.
        since = time - start
        envelope = np.where(since > 0, np.minimum(since / 0.01, 1.0) * np.exp(-np.maximum(since, 0) / lasts), 0.0)
        for _ in range(int(rng.integers(1, 5))):
            pitch = 440.0 * 2.0 ** ((int(rng.integers(36, 85)) - 69) / 12)
            brightness, loudness = rng.uniform(0.8, 2.5), rng.uniform(0.1, 1.0)
            for harmonic in range(1, int(min(12, RATE / 2 / pitch))):
                phase = rng.uniform(0, 2 * np.pi)
                clip += (
                    loudness * harmonic**-brightness * envelope * np.sin(2 * np.pi * pitch * harmonic * time + phase)
                )
        start += float(rng.uniform(0.1, 0.6))
    loud: NDArray[np.float64] = clip * rng.uniform(0.1, 0.95) / max(float(np.abs(clip).max()), 1e-9)
    return loud.astype(np.float32)
