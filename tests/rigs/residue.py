"""A search for what must not be there: traces of a picture and a sound that were marked, and whatever looks like media.

The picture bears a band of 32 bars, the sound a sequence of 64 chips, the metadata of both a word. Whoever wrote a
frame or a waveform somewhere, raw, scaled, as floats, encoded or in text, has left one of: the word, the bars, the
chips, the magic number of a format, a long run of base64 or hexadecimal digits, or bytes that are as good as random.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

Series = NDArray[np.float64]

WORD = "Kanarienvogel-7c1f"
_RANDOM = np.random.default_rng(20_261_123)
BARS: NDArray[np.bool_] = _RANDOM.permutation(np.repeat([True, False], 16))
CHIPS: NDArray[np.bool_] = _RANDOM.permutation(np.repeat([True, False], 32))
#: Height of the band of bars, pixels; samples of a chip.
_BAND, _CHIP = 64, 8
#: Widths of a bar, pixels: as it is, as networks and flow want it, and smaller.
_BAR_WIDTHS = (24, 13, 12, 8, 6, 3, 1)
_ALIKE = 0.85

_MAGIC = {
    "JPEG": rb"\xff\xd8\xff[\xdb\xe0\xe1\xee]",
    "PNG": rb"\x89PNG\r\n",
    "GIF": rb"GIF8[79]a",
    "WebP": rb"RIFF....WEBP",
    "WAV": rb"RIFF....WAVE",
    "AVI": rb"RIFF....AVI ",
    "Ogg": rb"OggS\0",
    "FLAC": rb"fLaC\0",
    "MP4": rb"....ftyp(?:isom|iso2|mp4|avc1|qt  |M4A)",
    "Matroska": rb"\x1a\x45\xdf\xa3",
    "MP3": rb"ID3[\x02-\x04]\0",
    "H.264": rb"\0\0\0\x01[\x27\x67][\x42\x4d\x58\x64]",
    "numpy": rb"\x93NUMPY",
    "zip": rb"PK\x03\x04",
    "gzip": rb"\x1f\x8b\x08[\0\x08]....[\0\x02\x04][\x03\xff]",
}
_MAGICS = {name: re.compile(pattern, re.DOTALL) for name, pattern in _MAGIC.items()}
_EMPTY = re.compile(rb"\0{4096,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{96,}={0,2}")
_HEX = re.compile(rb"[0-9A-Fa-f]+")
#: The longest that a digest or a signature needs, hexadecimal digits.
_LONGEST_HEX = 128
_WINDOW, _RANDOM_BITS = 2048, 7.6


def marked_clip(source: Path, target: Path, seconds: float) -> None:
    """A real clip with the bars over its top and the word in its metadata, MPEG-4.

    Args:
        source: The clip.
        target: Where it goes.
        seconds: Its length.
    """
    with av.open(str(source)) as clip, av.open(str(target), "w", options={"movflags": "use_metadata_tags"}) as out:
        out.metadata.update({"title": WORD, "comment": WORD})
        rate = clip.streams.video[0].average_rate or Fraction(10)
        stream: Any = None
        for number, frame in enumerate(clip.decode(video=0)):
            if number >= seconds * rate:
                break
            image = marked(frame.to_ndarray(format="bgr24"))
            if stream is None:
                stream = out.add_stream("mpeg4", rate=rate)
                stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *image.shape[1::-1], "yuv420p", 4_000_000
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        out.mux(stream.encode(None))


def marked(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture, (H, W, 3) uint8, with the bars over its top."""
    image = image.copy()
    bars = np.repeat(BARS, -(-image.shape[1] // len(BARS)))[: image.shape[1]]
    image[:_BAND] = np.where(bars, 255, 0)[None, :, None]
    return image


def marked_sound(source: Path, target: Path) -> None:
    """A real sound with the chips below it and the word in its metadata, WAV at 16 kHz."""
    sound, rate = soundfile.read(source, dtype="float32", always_2d=True)
    chips = chipped(len(sound))
    with soundfile.SoundFile(target, "w", rate, 1, "PCM_16") as out:
        out.title = WORD
        out.write(np.clip(0.3 * sound[:, 0] + chips, -1, 1))


def chipped(samples: int) -> NDArray[np.float32]:
    """The chips again and again, (samples,) float32."""
    once = np.repeat(np.where(CHIPS, 0.5, -0.5), _CHIP).astype(np.float32)
    return np.resize(once, samples)


def found_in(content: bytes, *, packed: bool = False) -> list[str]:
    """What there is in these bytes that must not be there, in words.

    Args:
        content: Anything.
        packed: It is a database, whose fields lie side by side: runs of digits say nothing of the whole.
    """
    content = _EMPTY.sub(b"\0" * 64, content)
    found = [f"the magic number of {name}" for name, magic in _MAGICS.items() if magic.search(content)]
    if any(form in content for form in _forms(WORD)):
        found.append("the word of the metadata")
    return found + _marks_in(content) + ([] if packed else _fillings(content))


def found_in_database(path: Path) -> list[str]:
    """The same for an SQLite database, field by field; a binary field may be a digest or a signature."""
    found = found_in(path.read_bytes(), packed=True)
    with contextlib.closing(sqlite3.connect(path)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - a name out of this database
                for value in row:
                    content = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else b""
                    found += [f"{table}: {what}" for what in _fillings(content)]
    return found


def odd_texts(document: Any, path: str = "") -> Iterator[str]:
    """Places of a JSON document whose text is neither words nor a digest: more than 5 bits a character."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from odd_texts(value, f"{path}.{key}")
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from odd_texts(value, f"{path}[{index}]")
    elif isinstance(document, str) and len(document) >= 40 and not re.fullmatch("[0-9a-f]{64}|[0-9a-f]{128}", document):
        longest = max(document.split(), key=len)
        if len(longest) >= 40 and _bits(longest.encode()) > 4.5:
            yield path


def _forms(word: str) -> Iterator[bytes]:
    plain = word.encode()
    yield from (plain, word.encode("utf-16-le"), plain.hex().encode())
    for shift in range(3):  # wherever the word lies in what was encoded, the middle of it looks like one of these
        yield base64.b64encode(b"\0" * shift + plain)[4:-4]


def _fillings(content: bytes) -> list[str]:
    """Long runs of digits, and bytes that are as good as random."""
    found = list(_runs(content))
    if _most_random(content) > _RANDOM_BITS:
        found.append("bytes that are as good as random")
    return found


def _runs(content: bytes) -> Iterator[str]:
    for match in _BASE64.finditer(content):
        run = match[0]
        if _HEX.fullmatch(run):
            if len(run) > _LONGEST_HEX:
                yield f"{len(run)} hexadecimal digits"
        elif run.count(b"/") > len(run) / 40 and not re.search(rb"[+=]", run):
            continue  # a path
        elif _bits(run) > 5:
            yield f"{len(run)} digits of base64"
            with contextlib.suppress(binascii.Error):
                yield from found_in(base64.b64decode(run + b"=" * (-len(run) % 4)), packed=True)


def _bits(content: bytes) -> float:
    """Entropy of the bytes' distribution, bits a byte."""
    counts = Counter(content).values()
    return -sum(n / len(content) * math.log2(n / len(content)) for n in counts)


def _most_random(content: bytes) -> float:
    windows = range(0, max(1, len(content) - _WINDOW + 1), _WINDOW // 2)
    return max((_bits(content[start : start + _WINDOW]) for start in windows if content), default=0.0)


def _numbers(content: bytes) -> Iterator[Series]:
    """The bytes as samples: unsigned bytes, 16-bit integers, 32-bit floats, wherever they begin."""
    for dtype, size in ((np.uint8, 1), (np.int16, 2), (np.float32, 4)):
        for start in range(size):
            whole = (len(content) - start) // size
            with np.errstate(invalid="ignore", over="ignore"):
                series = np.frombuffer(content, dtype, whole, start).astype(np.float64) if whole > 0 else np.empty(0)
            # Text and pointers, read as floats, are out of any range of pictures and sounds.
            series[~np.isfinite(series) | (np.abs(series) > 1e6) | ((series != 0) & (np.abs(series) < 1e-6))] = 0
            yield series


def _marks_in(content: bytes) -> list[str]:
    """Whether a row of the picture is there, interleaved or planar, at some width; and whether some of the sound is."""
    bars = [_levels(BARS, width * channels) for width in _BAR_WIDTHS for channels in (1, 3)]
    chips = [_levels(CHIPS, step) for step in (_CHIP, _CHIP // 2, 3 * _CHIP)]  # 16, 8 and 48 kHz
    found = []
    for series in _numbers(content):
        found += ["the bars of the picture"] if _alike(series, bars) > _ALIKE else []
        found += ["the chips of the sound"] if _alike(series, chips) > _ALIKE else []
    return sorted(set(found))


def _levels(mark: NDArray[np.bool_], repeats: int) -> Series:
    return np.repeat(np.where(mark, 1.0, -1.0), repeats)


def _alike(series: Series, patterns: Sequence[Series]) -> float:
    """The greatest normalised correlation of any pattern, either way up, with any part of the series."""
    if not series.any():
        return 0.0
    size = 1 << (len(series) + max(map(len, patterns))).bit_length()
    spectrum = np.fft.rfft(series, size)
    sums, squares = (np.concatenate([[0.0], np.cumsum(s)]) for s in (series, series**2))
    best = 0.0
    for pattern in patterns:
        n = len(pattern)
        if n > len(series):
            continue
        # The patterns have as many ups as downs, so that the mean of the series does not matter.
        products = np.fft.irfft(spectrum * np.fft.rfft(pattern[::-1], size), size)[n - 1 : len(series)]
        mean = (sums[n:] - sums[:-n]) / n
        spread = (squares[n:] - squares[:-n]) / n - mean**2
        # What rounding leaves of a constant part is no spread.
        spread[spread < 1e-9 * (1 + squares[-1] / len(series))] = np.inf
        best = max(best, float(np.max(np.abs(products) / (n * np.sqrt(spread)))))
    return best


def texts(payload: bytes) -> list[str]:
    """What is odd in an MQTT payload: it must be JSON, and every text of it words or a digest."""
    try:
        return [f"an odd text at {where}" for where in odd_texts(json.loads(payload))]
    except ValueError:
        return ["a payload that is no JSON"]
