"""A .pt2 artefact: a program of torch.export, run operator by operator."""

from operator import attrgetter
from pathlib import Path
from typing import Any

from sum3dcam.contract import CLIP, PT2, Card
from sum3dcam.digests import file_sha256
from sum3dcam.errors import ArtifactError
from sum3dcam.serving.engines.engine import check_same, input_names
from sum3dcam.serving.engines.torch_engine import TorchEngine, claim_device, put_channels_last


def load(path: Path, *, card: Card, device: str, num_threads: int) -> TorchEngine:
    """Loads on exactly the device asked for.

    Raises:
        ArtifactError: as `load_engine`.
    """
    import torch
    from torch.export.passes import move_to_device_pass

    claim_device(device, num_threads=num_threads)
    try:
        program = torch.export.load(str(path))
    except Exception as error:
        raise ArtifactError("torch cannot load the graph", got=f"{path.name}: {error}") from error
    signature = program.graph_signature
    check_same("inputs", got=signature.user_inputs, card=input_names(card))
    (clip,) = program.graph.find_nodes(op="placeholder", target=CLIP)
    check_same("clip dimensions", got=clip.meta["val"].shape[1:], card=card.clip_shape_THWC)
    # Outputs have no names in a .pt2: only their number can be held against the card.
    check_same("number of outputs", got=[len(signature.user_outputs)], card=[len(card.outputs)])
    if device != "cpu":
        program = move_to_device_pass(program, device)
    module = program.module()
    _fold_constants(module)
    if device != "cpu":
        put_channels_last(module)
    return TorchEngine(module, name=PT2, card=card, device=device, sha256=file_sha256(path))


def _fold_constants(module: Any) -> None:
    """Computes what depends on weights alone here, once: the flipped weights of the backward."""
    from torch.fx.node import map_arg

    graph = module.graph
    constants = {node: attrgetter(node.target)(module) for node in graph.find_nodes(op="get_attr")}
    for node in graph.nodes:
        if node.op == "call_function" and node.all_input_nodes and constants.keys() >= set(node.all_input_nodes):
            args, kwargs = map_arg((node.args, node.kwargs), constants.__getitem__)
            constants[node] = node.target(*args, **kwargs)
    for node, value in constants.items():
        if node.op == "call_function" and not constants.keys() >= node.users.keys():
            name = f"folded_{node.name}"
            module.register_buffer(name, value.contiguous())
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.get_attr(name))
    graph.eliminate_dead_code()
    module.recompile()
