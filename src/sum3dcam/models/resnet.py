"""ResNet-50 (He et al.; torchvision's, stride on the 3x3) on clips of one frame, for Sum 2DCAM.

Written with 3D convolutions of one frame, so that one set of backward rules and emitters serves every network.
"""

from torch import Tensor

from sum3dcam.models.residual import TAPS, ResidualNetwork, ResidualShape
from sum3dcam.models.spec import Layout, NetworkSpec, same_key

SHAPE_50 = ResidualShape(
    blocks=(3, 4, 6, 3),
    widths=(64, 128, 256, 512),
    expansion=4,
    groups=1,
    stem_channels=64,
    stem_kernel_THW=(1, 7, 7),
    kernel_frames=1,
)


def _with_frame_axis(tensor: Tensor) -> Tensor:
    """A 2D convolution's weight (O,I,h,w) as (O,I,1,h,w); anything else as it is."""
    return tensor.unsqueeze(2) if tensor.ndim == 4 else tensor


RESNET50 = NetworkSpec(
    build=lambda num_classes, num_frames: ResidualNetwork(SHAPE_50, num_classes=num_classes),
    taps=TAPS,
    mean=(123.675, 116.28, 103.53),  # 255 times .485, .456, .406
    std=(58.395, 57.12, 57.375),  # 255 times .229, .224, .225
    head="fc.weight",
    num_frames=1,
    size_px=224,
    preprocessing="squash",
    label_sets={1000: "ImageNet"},
    layouts=(Layout("torchvision", own_key=same_key, own_tensor=_with_frame_axis),),
)
