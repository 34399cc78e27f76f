"""Bytes to frames: decoding, sampling clips, and the geometry that leads boxes back to the source."""
