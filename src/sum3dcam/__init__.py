"""Serve 3D CNN action recognition together with its Sum3DCAM explanation."""

__version__ = "0.1.0"
