"""How tall a person is in the picture, by place: what makes "fast" and "close" mean the same near the camera and far.

On flat ground the height of people in the picture grows linearly with the place of their feet (Hoiem et al., "Putting
objects in perspective", IJCV 80, 2008). The line is fitted to the persons seen, with exponential forgetting; before
there are any, a person is taken to fill a fifth of the picture.
"""

from __future__ import annotations

import numpy as np

from agent.perception.scene import FloatArray, Tracks

#: What a person fills where none has been seen, as a share of the picture's height.
_USUAL = 0.2
#: The first guess counts as much as so many persons seen once each.
_DOUBT = 20.0
#: How much the level is trusted beside the slope: people at one depth say nothing of other depths.
_SLOPE_DOUBT = 4.0
#: Persons after which a sight counts for half: a camera may be moved.
_HALF_LIFE = 5000.0
#: Limits of a person's height, shares of the picture's height.
_SMALLEST, _LARGEST = 0.02, 1.5


#: Width of a box around somebody upright who is seen from the side, of its height (Dollár et al., "Pedestrian
#: detection: an evaluation of the state of the art", IEEE T-PAMI 34(4), 2012).
_ASPECT = 0.41
#: More is no person upright any more.
_MOST = 2.0


class PersonScale:
    """Learns the height of persons over the picture, and their width; all in shares of its height."""

    def __init__(self) -> None:
        # Normal equations of height and width over the feet's y, beginning with level lines.
        self._matrix = np.array([[_DOUBT, 0.5 * _DOUBT], [0.5 * _DOUBT, 0.25 * _DOUBT + _SLOPE_DOUBT]])
        usual = np.array([_USUAL, _ASPECT * _USUAL])
        self._right = np.stack([usual * _DOUBT, 0.5 * usual * _DOUBT])
        self._lines = np.stack([usual, np.zeros(2)])

    def update(self, tracks: Tracks, width: int, height: int) -> None:
        """Learn from the persons who are seen whole, upright and within the picture.

        Args:
            tracks: Of one frame.
            width: Of the frame, pixels.
            height: Of the frame, pixels.
        """
        boxes = tracks.boxes / np.array([width, height] * 2, np.float32)
        tall = boxes[:, 3] - boxes[:, 1]
        wide = (boxes[:, 2] - boxes[:, 0]) * np.float32(width / height)
        whole = ((boxes > 0.01) & (boxes < 0.99)).all(axis=1)
        rows = tracks.persons() & (tracks.unseen == 0) & whole & (tall > 1.5 * wide)
        if not rows.any():
            return
        ones = np.stack([np.ones(int(rows.sum())), boxes[rows, 3]])
        keep = 0.5 ** (ones.shape[1] / _HALF_LIFE)
        self._matrix = keep * self._matrix + ones @ ones.T
        self._right = keep * self._right + ones @ np.stack([tall, wide], axis=1)[rows]
        # Cramer's rule: a third of what numpy takes to solve two equations.
        (a, b), (_, d) = self._matrix.tolist()
        self._lines = np.array([[d, -b], [-b, a]]) @ self._right / (a * d - b * b)

    def at(self, y: FloatArray) -> FloatArray:
        """Height of a person whose feet are there, shares of the picture's height.

        Args:
            y: Of the feet, share of the picture's height, any shape, float32.
        """
        return np.asarray(np.clip(self._lines[0, 0] + self._lines[1, 0] * y, _SMALLEST, _LARGEST), np.float32)

    def shortened(self, y: FloatArray) -> FloatArray:
        """How many times as tall somebody with feet there would be if not seen from above, at least 1; as in `at`.

        Seen from above, people look shorter and no narrower.
        """
        wide = self._lines[0, 1] + self._lines[1, 1] * y
        return np.asarray(np.clip(wide / _ASPECT / self.at(y), 1, _MOST), np.float32)
