"""From frames to a `Scene`: detector, motion-only tracker, and later flow, change and hearing."""
