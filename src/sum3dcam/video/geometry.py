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
    return _centre_crop(width_px, height_px, shorter_side_px=size_px, size_px=size_px)


def shorter_side_256_crop_224(width_px: int, height_px: int, *, size_px: int) -> Geometry:
    """I3D's: shorter side to 8/7 of size_px (256 for 224), aspect kept, then a centre crop of size_px.

    >>> shorter_side_256_crop_224(320, 240, size_px=224)  # doctest: +ELLIPSIS
    Geometry(..., resized_width_px=341, resized_height_px=256, crop_left_px=58, crop_top_px=16, size_px=224)
    """
    return _centre_crop(width_px, height_px, shorter_side_px=size_px * 256 // 224, size_px=size_px)


def squash(width_px: int, height_px: int, *, size_px: int) -> Geometry:
    """Width and height both to size_px: the aspect is not kept and nothing is cut off, as localisation wants it.

    >>> squash(320, 240, size_px=224).to_source((0.0, 0.0, 112.0, 224.0))
    (0.0, 0.0, 160.0, 240.0)
    """
    return Geometry(
        source_width_px=width_px,
        source_height_px=height_px,
        resized_width_px=size_px,
        resized_height_px=size_px,
        crop_left_px=0,
        crop_top_px=0,
        size_px=size_px,
    )


def _centre_crop(width_px: int, height_px: int, *, shorter_side_px: int, size_px: int) -> Geometry:
    short = min(width_px, height_px)
    # The longer side is truncated, as in the networks' own training code.
    resized_width_px = shorter_side_px * width_px // short
    resized_height_px = shorter_side_px * height_px // short
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
PREPROCESSING: Mapping[str, Callable[..., Geometry]] = {
    "shorter-side-centre-crop": shorter_side_centre_crop,
    "shorter-side-256-crop-224": shorter_side_256_crop_224,
    "squash": squash,
}
