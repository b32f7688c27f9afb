import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from agent.perception.logmel import BANDS, FRAME, FRAMES, HOP, PATCH, RATE, logmel


def noise(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 0.1, count).astype(np.float32)


def tone(hertz: float) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * hertz * np.arange(PATCH) / RATE, dtype=np.float32)


def by_definition(samples: NDArray[np.float32], frame: int, band: int) -> float:
    """One value, from the formulas as they are written, in double precision."""
    cut = samples[frame * HOP : frame * HOP + 400].astype(np.float64)
    window = [0.5 - 0.5 * math.cos(2 * math.pi * place / 400) for place in range(400)]
    lowest, highest = (1127 * math.log1p(hertz / 700) for hertz in (125, 7500))
    edges = [700 * math.expm1(mel / 1127) for mel in np.linspace(lowest, highest, 66)]
    low, middle, high = (1127 * math.log1p(edge / 700) for edge in edges[band : band + 3])
    total = 0.0
    for number in range(257):
        mel = 1127 * math.log1p(number * 16000 / 512 / 700)
        weight = min((mel - low) / (middle - low), (high - mel) / (high - middle))
        if weight > 0:
            turns = np.exp(-2j * np.pi * number * np.arange(400) / 512)
            total += weight * abs(complex((cut * window * turns).sum()))
    return math.log(total + 0.001)


def test_a_patch_has_96_frames_of_64_bands() -> None:
    assert logmel(noise(PATCH)).shape == (FRAMES, BANDS)
    assert logmel(noise(PATCH)).dtype == np.float32


def test_many_patches_are_as_each_by_itself() -> None:
    both = np.stack([noise(PATCH), tone(440)])
    np.testing.assert_allclose(logmel(both), [logmel(patch) for patch in both], rtol=1e-5)


@pytest.mark.parametrize(("frame", "band"), [(0, 0), (0, 63), (17, 5), (50, 31), (95, 48)])
def test_a_value_is_what_the_formulas_say(frame: int, band: int) -> None:
    assert logmel(noise(PATCH))[frame, band] == pytest.approx(by_definition(noise(PATCH), frame, band), abs=1e-4)


def test_silence_is_finite() -> None:
    np.testing.assert_allclose(logmel(np.zeros(PATCH, np.float32)), math.log(0.001), rtol=1e-5)


def test_higher_tones_lie_in_higher_bands() -> None:
    bands = [int(logmel(tone(hertz)).mean(axis=0).argmax()) for hertz in (200, 500, 1000, 2000, 4000, 7000)]
    assert bands == sorted(set(bands))


def test_twice_the_amplitude_adds_the_logarithm_of_two() -> None:
    np.testing.assert_allclose(logmel(noise(PATCH) * 2) - logmel(noise(PATCH)), math.log(2), atol=1e-2)


def test_frames_are_counted_without_padding() -> None:
    assert len(logmel(noise(FRAME))) == 1
    assert len(logmel(noise(FRAME + HOP - 1))) == 1
    assert len(logmel(noise(FRAME + HOP))) == 2


def test_it_hears_what_yamnet_hears(data: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the teacher's front end is read with onnx, of the training extra")
    yamnet = onnx.load(data / "models" / "yamnet_rebuilt.onnx")
    (logarithm,) = [node for node in yamnet.graph.node if node.op_type == "Log"]
    yamnet.graph.output.append(onnx.helper.make_tensor_value_info(logarithm.output[0], onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(yamnet.SerializeToString(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run([logarithm.output[0]], {"waveform": noise(PATCH)[None]})
    np.testing.assert_allclose(logmel(noise(PATCH)), theirs[0].T, atol=2e-3)


#: What librosa 0.11.0 makes of the chirp, natural logarithms; rows are frames, columns bands 2, 10, 20, 30, 40 and 60:
#: S = np.abs(librosa.stft(np.pad(x, 56), n_fft=512, hop_length=160, win_length=400, window="hann", center=False)), and
#: np.log(S.T @ W + 1e-3) with W as `by_definition` has the weights: librosa's own triangles are straight in hertz.
BY_LIBROSA = np.array(
    [
        [-1.32768, 1.41313, 3.25776, 2.74011, -4.61616, -6.85285],
        [-6.0306, -5.01766, -0.47729, 3.52899, 1.68939, -6.80201],
        [-6.71452, -6.59065, -5.72649, -0.73614, 4.02362, -6.68666],
        [-6.83871, -6.81161, -6.66027, -5.65835, 1.89005, -6.36384],
        [-6.87576, -6.86652, -6.82514, -6.61488, -4.49829, -5.27148],
    ]
)


def test_frames_windows_and_transform_are_those_of_librosa() -> None:
    time = np.arange(1040) / RATE
    chirp = (0.5 * np.sin(2 * np.pi * (200 * time + 40_000 * time**2))).astype(np.float32)
    np.testing.assert_allclose(logmel(chirp)[:, [2, 10, 20, 30, 40, 60]], BY_LIBROSA, atol=1e-4)
