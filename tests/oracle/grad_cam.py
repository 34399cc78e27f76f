"""pytorch-grad-cam on a network, up to the point where it resizes its maps.

It imports torchvision for image transforms that no attribution uses. On PyPI torchvision is built for CUDA and cannot
be imported beside a CPU build of torch, so where it is missing those names stand in.
"""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

TRANSFORMS = ("Compose", "Normalize", "ToTensor", "resize")


def _stand_in() -> None:
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    modules = {name: ModuleType(name) for name in names}
    for module in modules.values():
        for name in TRANSFORMS:
            setattr(module, name, None)
    sys.modules.update(modules)


if importlib.util.find_spec("torchvision") is None:
    _stand_in()

from pytorch_grad_cam import GradCAM, HiResCAM, LayerCAM  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402

# The project's grids in its words.
METHOD_OF_GRID: Mapping[str, Any] = {"gradcam": GradCAM, "hirescam": HiResCAM, "layercam": LayerCAM}


class _Logits(nn.Module):
    """The classifier as pytorch-grad-cam wants it: (B,C,T,H,W) in, logits out."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        logits: Tensor = self.classifier(clip_BCTHW.permute(0, 2, 3, 4, 1))[0]
        return logits


def grids(
    method: Any, classifier: nn.Module, *, layers: Sequence[nn.Module], clips_BTHWC: Tensor, classes: Sequence[int]
) -> list[np.ndarray]:
    """(B,t,h,w) of each layer's output, as it is before ReLU and resizing."""
    found = []
    with method(model=_Logits(classifier), target_layers=list(layers)) as cam:
        of_layer = cam.get_cam_image

        def record(*args: Any) -> np.ndarray:
            found.append(np.asarray(of_layer(*args)))
            return found[-1]

        cam.get_cam_image = record
        cam(clips_BTHWC.permute(0, 4, 1, 2, 3), [ClassifierOutputTarget(label) for label in classes])
    return found
