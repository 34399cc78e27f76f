"""Names, dtypes, axes and units of everything that crosses a border: graph, artefact card, wire.

Axes: B batch, N clips of one request, E classes explained per clip, C channels, T/H/W frames and pixels of the input
clip, t/h/w the grid of a tap, K classes. Boxes are half-open [x1, y1, x2, y2) in pixels of the source video.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sum3dcam.errors import ArtifactError

CONTRACT_VERSION = 2

# The graph's tensors.
CLIP = "clip"  # uint8 (B,T,H,W,C), decoded pixels; normalisation happens inside the graph
# What a clip's channels are, stream by stream in the card's order; flow is (x, y) in 8-bit coding, see FLOW_BOUND_PX.
STREAM_CHANNELS: Mapping[str, int] = {"rgb": 3, "flow": 2}
FLOW_BOUND_PX = 20.0  # flow byte v means v / 255 * 40 - 20 pixels per frame
TARGET = "target"  # int64 (B,), class to explain; TOP_CLASS asks for the argmax
LOGITS = "logits"  # float32 (B,K), before softmax
EXPLAINED = "explained"  # int64 (B,), the class that was explained
SALIENCY = "saliency"  # float32 (B,T,H,W) in [0,1]: DEFAULT_METHOD over the card's taps, divided by its own max
TOP_CLASS = -1

# Low-resolution grids, float32 (B,t,h,w), one of each per tap: A activation, G = d logit / d A, both (B,c,t,h,w).
GRIDS = (
    "activation",  # sum_c A
    "gradient",  # sum_c G
    "gradcam",  # sum_c mean_thw(G)_c A_c
    "layercam",  # sum_c ReLU(G) A
    "hirescam",  # sum_c G A
)

EXPLAIN_GRAPH = "explain"
LABELS_GRAPH = "labels"

DEFAULT_METHOD = "sum3dcam"

# A map whose maximum is at or below this is all zero and its tap is reported "empty".
EMPTY_MAX = 1e-20

# Of a graph's convolutions and what lies between them. In bfloat16 ReLUs flip, and maps are others than float32's.
FP32 = "fp32"
BF16 = "bf16"
PRECISIONS = (FP32, BF16)

# What runs a graph, as a card's certificate and a reply name it. EAGER is the network that was exported, in float32 or,
# where the card is of lower precision, under torch's autocast.
ONNXRUNTIME = "onnxruntime"
OPENVINO = "openvino"
TORCHSCRIPT = "torchscript"
PT2 = "pt2"
AOTI = "aoti"
EAGER = "eager"

# Where the card travels: ONNX metadata property / extra file of TorchScript and .pt2.
CARD_KEY = "sum3dcam_card"
# Where a compiled file says what it was compiled for: a JSON object of torch, architecture and cpu_features.
BUILD_KEY = "sum3dcam_build"

# Request options (flat keys). `data` (or TorchServe's `body`) holds the bytes.
EXPLAIN_MODES = ("none", "boxes", "maps", "grids")
COORDINATES = ("half-pixel", "corners")  # what linear interpolation takes samples for: centres of cells, or corners
NORMALISATIONS = ("clip", "frame")  # over what a map is divided by its maximum
BOX_MODES = ("union", "largest", "all")
TUBE_MODES = ("none", "linked", "smoothed")
MAP_DTYPES = ("u8", "f16", "f32")
# Of the whole reply; with delta-zlib, uint8 tensors are differences first (`wire.differences`).
COMPRESSIONS = ("none", "zlib", "delta-zlib")
COMPRESSED_SHARE = 4  # how many times a reply's limit its tensors may take before they are compressed to a third
FORMATS = ("json", "safetensors")
OPTION_KEYS = (
    "explain",
    "method",
    "taps",
    "target",
    "coordinates",
    "normalisation",
    "top_k",
    "threshold",
    "box_mode",
    "tubes",
    "map_dtype",
    "format",
    "compression",
    "deadline_ms",
    "request_id",
    "traceparent",
)
# A `deadline_ms` below this is a duration; from here on (September 2001 in milliseconds) a Unix time.
UNIX_TIME_FROM_MS = 10**12

# The reply.
ENVELOPE_KEY = "envelope"  # the safetensors metadata entry that carries the JSON envelope
DIFFERENCES_KEY = "differences"  # the one that names, with commas between, the tensors that are differences
MAPS = "maps"  # tensor of a maps reply: (N,E,T,H,W); maps_rgb and maps_flow beside it where both streams have taps
JSON_TYPE = "application/json"
SAFETENSORS_TYPE = "application/vnd.safetensors"


def grid_name(grid: str, tap: str) -> str:
    """Name of a tap's grid among the graph's outputs and in a grids reply.

    >>> grid_name("gradient", "layer2")
    'gradient_layer2'
    """
    return f"{grid}_{tap}"


@dataclass(frozen=True)
class Tap:
    """A feature map that attribution reads: (B,channels,t,h,w) after its ReLU, in the network of one stream."""

    name: str
    channels: int
    grid_thw: tuple[int, int, int]
    stream: str = "rgb"


def streams_of(taps: Sequence[Tap]) -> tuple[str, ...]:
    """The streams in which the taps lie, in their order.

    >>> streams_of([Tap("flow_layer1", 1, (1, 1, 1), "flow"), Tap("flow_layer2", 1, (1, 1, 1), "flow")])
    ('flow',)
    """
    return tuple(dict.fromkeys(tap.stream for tap in taps))


def stream_name(name: str, stream: str) -> str:
    """Name of a tensor (SALIENCY, MAPS) that is over one stream's taps alone.

    >>> stream_name("maps", "flow")
    'maps_flow'
    """
    return f"{name}_{stream}"


def output_names(graph: str, taps: Sequence[Tap]) -> tuple[str, ...]:
    """The graph's outputs, in their order (torch returns them as a tuple).

    A graph whose taps lie in several streams has a saliency of each behind the one over all of them.
    """
    if graph == LABELS_GRAPH:
        return (LOGITS,)
    streams = streams_of(taps)
    per_stream = [stream_name(SALIENCY, stream) for stream in streams if len(streams) > 1]
    return (LOGITS, EXPLAINED, SALIENCY, *per_stream, *(grid_name(grid, tap.name) for tap in taps for grid in GRIDS))


@dataclass(frozen=True)
class Card:
    """What an artefact says of itself; a server needs nothing else.

    `preprocessing` names how a frame becomes (size, size) pixels before the graph; mean and std are in the graph.
    `streams` are keys of STREAM_CHANNELS, whose channels lie side by side in a clip. `frames_per_second` is the rate
    to which a video is resampled before it is cut into clips, None for its own. `precision` is one of PRECISIONS.
    `parity` is the export's certificate: a row for each engine that could run the file there, of `export.certificate`.
    """

    graph: str
    model: str
    labels: tuple[str, ...]
    num_frames: int
    size_px: int
    streams: tuple[str, ...]
    preprocessing: str
    frames_per_second: float | None
    taps: tuple[Tap, ...]
    gates: tuple[str, ...]
    weights_sha256: str
    package_version: str
    precision: str = FP32
    parity: tuple[Mapping[str, Any], ...] = ()
    contract_version: int = CONTRACT_VERSION

    @property
    def tap_names(self) -> tuple[str, ...]:
        return tuple(tap.name for tap in self.taps)

    @property
    def tap_streams(self) -> Mapping[str, str]:
        return {tap.name: tap.stream for tap in self.taps}

    @property
    def num_channels(self) -> int:
        return sum(STREAM_CHANNELS[stream] for stream in self.streams)

    @property
    def clip_shape_THWC(self) -> tuple[int, int, int, int]:
        return (self.num_frames, self.size_px, self.size_px, self.num_channels)

    @property
    def outputs(self) -> tuple[str, ...]:
        return output_names(self.graph, self.taps)

    def parity_row(self, engine: str, *, provider: str) -> Mapping[str, Any] | None:
        """The certificate's row of an engine on a provider, `cuda:1` as `cuda`; None where the export had none."""
        kind = provider.partition(":")[0]
        rows = [row for row in self.parity if (row["engine"], row["provider"]) == (engine, kind)]
        return rows[0] if rows else None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str | None) -> "Card":
        """Reads a card.

        Raises:
            ArtifactError: no card, not a card, or a card of another contract version.
        """
        if not text:
            raise ArtifactError(
                f"the file carries no '{CARD_KEY}' metadata: it was not made by export/to_onnx.py, "
                "to_torchscript.py, to_pt2.py or to_aoti.py; export it again"
            )
        try:
            raw = {"precision": FP32, **json.loads(text)}  # which cards did not always say
            version = raw["contract_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError("the artefact's card is not readable; export it again", got=text[:80]) from error
        if version != CONTRACT_VERSION:
            raise ArtifactError(
                "the artefact was exported for another contract version; export it again with this package",
                got=version,
                allowed=CONTRACT_VERSION,
            )
        names = {field.name for field in fields(Card)}
        if set(raw) != names:
            raise ArtifactError(
                "the artefact's card has other fields than this contract's; export it again",
                got=sorted(set(raw) ^ names),
                allowed=sorted(names),
            )
        try:
            raw["labels"] = tuple(raw["labels"])
            raw["gates"] = tuple(raw["gates"])
            raw["streams"] = tuple(raw["streams"])
            raw["taps"] = tuple(Tap(**{**tap, "grid_thw": tuple(tap["grid_thw"])}) for tap in raw["taps"])
            raw["parity"] = tuple(_checked_row(row) for row in raw["parity"])
            if raw["precision"] not in PRECISIONS:
                raise TypeError(raw["precision"])
        except (KeyError, TypeError) as error:
            raise ArtifactError("a field of the artefact's card is of another kind; export it again") from error
        return Card(**raw)


def _checked_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raises TypeError or KeyError where what a server asks of a row is missing."""
    if not (isinstance(row["engine"], str) and isinstance(row["provider"], str) and isinstance(row["passed"], bool)):
        raise TypeError(row)
    return row
