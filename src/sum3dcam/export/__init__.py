"""From (network, weights, taps) to one self-describing artefact."""
