"""How a source frame becomes the graph's square, and the exact way back for boxes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Geometry:
    """Resize to (resized_width_px, resized_height_px), then cut a size_px square at (crop_left_px, crop_top_px).

    Width and height of the source are those a viewer sees, after rotation.
    """

    source_width_px: int
    source_height_px: int
    resized_width_px: int
    resized_height_px: int
    crop_left_px: int
    crop_top_px: int
    size_px: int

    @property
    def crop_xyxy_px(self) -> Box:
        """The rectangle of the source that the square covers, half-open, source pixels."""
        return self.to_source((0.0, 0.0, float(self.size_px), float(self.size_px)))

    def to_source(self, box_xyxy: Box) -> Box:
        """The box of the square's pixels in source pixels; both half-open.

        >>> shorter_side_centre_crop(100, 50, size_px=100).to_source((0.0, 0.0, 100.0, 100.0))
        (25.0, 0.0, 75.0, 50.0)
        """
        x1, y1, x2, y2 = box_xyxy
        return (
            (x1 + self.crop_left_px) * self.source_width_px / self.resized_width_px,
            (y1 + self.crop_top_px) * self.source_height_px / self.resized_height_px,
            (x2 + self.crop_left_px) * self.source_width_px / self.resized_width_px,
            (y2 + self.crop_top_px) * self.source_height_px / self.resized_height_px,
        )

    def from_source(self, box_xyxy: Box) -> Box:
        """The inverse of `to_source`; parts outside the square come out below 0 or above size_px."""
        x1, y1, x2, y2 = box_xyxy
        return (
            x1 * self.resized_width_px / self.source_width_px - self.crop_left_px,
            y1 * self.resized_height_px / self.source_height_px - self.crop_top_px,
            x2 * self.resized_width_px / self.source_width_px - self.crop_left_px,
            y2 * self.resized_height_px / self.source_height_px - self.crop_top_px,
        )


def shorter_side_centre_crop(width_px: int, height_px: int, *, size_px: int) -> Geometry:
    """Shorter side to size_px, aspect kept, then a centre crop of size_px.

    >>> shorter_side_centre_crop(320, 240, size_px=112)  # doctest: +ELLIPSIS
    Geometry(..., resized_width_px=149, resized_height_px=112, crop_left_px=18, crop_top_px=0, size_px=112)
    """
    short = min(width_px, height_px)
    # The longer side is truncated, as in the networks' own training code.
    resized_width_px = size_px * width_px // short
    resized_height_px = size_px * height_px // short
    return Geometry(
        source_width_px=width_px,
        source_height_px=height_px,
        resized_width_px=resized_width_px,
        resized_height_px=resized_height_px,
        crop_left_px=(resized_width_px - size_px) // 2,
        crop_top_px=(resized_height_px - size_px) // 2,
        size_px=size_px,
    )


# By the name that a card gives its preprocessing.
PREPROCESSING: Mapping[str, Callable[..., Geometry]] = {"shorter-side-centre-crop": shorter_side_centre_crop}
