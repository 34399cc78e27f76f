"""3D ResNeXt-101 (Hara, Kataoka, Satoh, CVPR 2018) and its small sibling."""

from sum3dcam.models.residual import TAPS, ResidualNetwork, ResidualShape
from sum3dcam.models.spec import Layout, NetworkSpec

SHAPE_101 = ResidualShape(
    blocks=(3, 4, 23, 3),
    widths=(128, 256, 512, 1024),
    expansion=2,
    groups=32,
    stem_channels=64,
    stem_kernel_THW=(7, 7, 7),
)
# The 7x7x7 stem is a third of ResNeXt-101's work; a 3x5x5 one trains in hours on two cores and still sees motion.
SHAPE_MINI = ResidualShape(
    blocks=(1, 2, 2, 1),
    widths=(32, 64, 128, 128),
    expansion=2,
    groups=8,
    stem_channels=16,
    stem_kernel_THW=(3, 5, 5),
)

RESNEXT101 = NetworkSpec(
    build=lambda num_classes, num_frames: ResidualNetwork(SHAPE_101, num_classes=num_classes),
    taps=TAPS,
    mean=(114.7748, 107.7354, 99.4750),  # Kinetics' channel means, as the 2018 release subtracts them; std stays 1
    std=(1.0, 1.0, 1.0),
    head="fc.weight",
    num_frames=16,
    size_px=112,
    preprocessing="shorter-side-centre-crop",
    label_sets={400: "Kinetics-400", 101: "UCF101", 51: "HMDB51"},
    layouts=(Layout("3D-ResNets-PyTorch (2018)"),),
)

RESNEXT_MINI = NetworkSpec(
    build=lambda num_classes, num_frames: ResidualNetwork(SHAPE_MINI, num_classes=num_classes),
    taps=TAPS,
    mean=(127.5, 127.5, 127.5),
    std=(63.75, 63.75, 63.75),
    head="fc.weight",
    num_frames=16,
    size_px=112,
    preprocessing="shorter-side-centre-crop",
    label_sets={10: "the rendered actions"},
    default_gates=TAPS,
)
