"""Serve 3D CNN action recognition together with its Sum3DCAM explanation."""

import os
import sys

__version__ = "0.1.0"

# Both engines report to their makers unless they are kept from it before they are first imported: ONNX Runtime, from
# 1.29 on, the names and digests of models, OpenVINO that it was imported. OpenVINO does without a package it lacks.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
