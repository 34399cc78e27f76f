"""The colormaps on offer, by the names OpenCV has for them; apart from the drawing, so that --help needs no OpenCV."""

from collections.abc import Mapping
from types import MappingProxyType

# cividis and viridis rise evenly in lightness, so they also read without red-green vision, and in grey.
COLORMAPS: Mapping[str, str] = MappingProxyType(
    {
        "turbo": "COLORMAP_TURBO",
        "cividis": "COLORMAP_CIVIDIS",
        "viridis": "COLORMAP_VIRIDIS",
        "inferno": "COLORMAP_INFERNO",
    }
)
DEFAULT_COLORMAP = "turbo"
