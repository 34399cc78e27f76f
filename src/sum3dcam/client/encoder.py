"""Pictures to a file: H.264 in mp4, and the care that any output needs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.codec.context import Flags
from av.video.reformatter import ColorRange, Colorspace

from sum3dcam.client.source import SourceFrame
from sum3dcam.errors import RequestError

CRF = "18"  # x264's "visually lossless"
# The colours that conversion from RGB gives here, said in the file, for players guess by the picture's size.
BT_601 = int(Colorspace.SMPTE170M)
LIMITED = int(ColorRange.MPEG)


def pixel_format(width_px: int, height_px: int) -> str:
    """4:2:0 plays everywhere but halves the colour planes, which needs even sides. An odd side keeps full colour
    (4:4:4, played by ffmpeg, VLC, mpv and Chrome) rather than growing a pixel: the overlay has the source's size."""
    return "yuv444p" if width_px % 2 or height_px % 2 else "yuv420p"


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Makes the output's folder; what fails inside is the output's fault.

    Raises:
        RequestError: it could not be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (av.FFmpegError, OSError) as error:
        raise RequestError("the picture could not be written", got=f"{output}: {error}") from error


@contextmanager
def mp4_encoder(
    output: Path,
    *,
    size_wh: tuple[int, int],
    fps: Fraction,
    time_base: Fraction,
    pixel_aspect: Fraction = Fraction(1),
) -> Iterator[Callable[[SourceFrame], None]]:
    """A function that writes one picture of that size, whose times are in ticks of `time_base`.

    The file appears at the end, when it is whole; after an error inside there is none.

    Raises:
        RequestError: it could not be written.
    """
    partial = output.with_name(f".{output.name}.part")
    with writing(output):
        try:
            with av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as container:
                stream = container.add_stream("libx264", rate=fps, options={"crf": CRF, "preset": "veryfast"})
                (stream.width, stream.height), stream.pix_fmt = size_wh, pixel_format(*size_wh)
                context = stream.codec_context
                context.time_base, context.sample_aspect_ratio = time_base, pixel_aspect
                context.colorspace, context.color_range = BT_601, LIMITED
                context.flags |= Flags.frame_duration  # or the last frame lasts 1 / fps, whatever it says

                def encode(picture: SourceFrame) -> None:
                    frame = av.VideoFrame.from_ndarray(picture.frame_HWC, format="rgb24")
                    frame.pts, frame.time_base, frame.duration = picture.pts, time_base, picture.duration
                    container.mux(stream.encode(frame))

                yield encode
                container.mux(stream.encode(None))
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)
