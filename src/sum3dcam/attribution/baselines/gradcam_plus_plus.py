"""Grad-CAM++ (Chattopadhyay, Sarkar, Howlader, Balasubramanian, WACV 2018) over clips."""

import torch
from torch import Tensor

from sum3dcam.attribution.baselines.explained import run_forward, to_maps
from sum3dcam.attribution.maps import Array
from sum3dcam.models import Classifier


def gradcam_plus_plus_grid(activation: Tensor, gradient: Tensor) -> Tensor:
    """ReLU(sum_c w_c A_c), (B,t,h,w), of a tap's activation A >= 0 and gradient G = dy/dA, both (B,c,t,h,w).

    The paper's w_c = sum_thw alpha ReLU(dY/dA), alpha = Y'' / (2 Y'' + Y''' sum_thw A), with the class's score
    Y = exp(y). Behind ReLUs and max pools y is piecewise linear in A, so that Y', Y'' and Y''' are exp(y) G,
    exp(y) G^2 and exp(y) G^3; exp(y) scales the map as a whole and is left out. Then alpha = 1 / (2 + G sum_thw A),
    and only G > 0, where that is between 0 and 1/2, passes the ReLU:

        w_c = sum_thw ReLU(G) / (2 + ReLU(G) sum_thw A_c)

    >>> A, G = torch.ones(1, 1, 1, 1, 2), torch.tensor([-1.0, 2.0]).view(1, 1, 1, 1, 2)
    >>> gradcam_plus_plus_grid(A, G).flatten().tolist()  # 2 / (2 + 2 * 2)
    [0.3333333432674408, 0.3333333432674408]
    """
    positive = torch.relu(gradient)
    weight_Bc111 = (positive / (2 + positive * activation.sum((2, 3, 4), keepdim=True))).sum((2, 3, 4), keepdim=True)
    return torch.relu((weight_Bc111 * activation).sum(1))


def gradcam_plus_plus(classifier: Classifier, *, clip_BTHWC: Tensor, target_B: Tensor, tap: str) -> Array:
    """The map of one tap, float32 (B,T,H,W) in [0,1]; ReLU before upsampling, as for Grad-CAM.

    Raises:
        BadOptionError: a tap or a target that the network does not have.
    """
    forward = run_forward(classifier, clip_BTHWC=clip_BTHWC, target_B=target_B)
    activation = forward.tap(tap)
    (gradient,) = torch.autograd.grad(forward.logit_B().sum(), activation)
    num_frames, size_px = clip_BTHWC.shape[1:3]
    grid_Bthw = gradcam_plus_plus_grid(activation.detach(), gradient)
    return to_maps(grid_Bthw, num_frames=num_frames, size_px=size_px)
