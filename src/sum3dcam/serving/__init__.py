"""From a request's bytes to a reply's bytes, with an artefact; knows no server but in `torchserve` and `launch`."""
