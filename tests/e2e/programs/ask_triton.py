"""Asks a Triton, with its own client: alone over HTTP and over gRPC, and eight at the same moment over gRPC.

python ask_triton.py MODEL HTTP_ADDRESS GRPC_ADDRESS < requests > replies, which are JSON: [media in base64, options]
each; and for each way to ask, the replies in base64.
"""

import json
import sys
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tritonclient.grpc
import tritonclient.http

TOGETHER = 8


def ask(module, client, model, data, options):
    tensors = []
    for name, value in (("data", data), ("options", json.dumps(options).encode())):
        tensors.append(module.InferInput(name, [1, 1], "BYTES"))
        tensors[-1].set_data_from_numpy(np.array([[value]], np.object_))
    (reply,) = client.infer(model, tensors).as_numpy("reply")[0]
    return b64encode(reply).decode()


def main(model, http_address, grpc_address):
    requests = [(b64decode(data), options) for data, options in json.load(sys.stdin)]
    http = tritonclient.http.InferenceServerClient(http_address, network_timeout=120)
    grpc = tritonclient.grpc.InferenceServerClient(grpc_address)
    replies = {
        "http": [ask(tritonclient.http, http, model, *one) for one in requests],
        "grpc": [ask(tritonclient.grpc, grpc, model, *one) for one in requests],
        "together": [],
    }
    with ThreadPoolExecutor(TOGETHER) as pool:
        for first in range(0, len(requests), TOGETHER):
            some = requests[first : first + TOGETHER]
            replies["together"] += pool.map(lambda one: ask(tritonclient.grpc, grpc, model, *one), some)
    json.dump(replies, sys.stdout)


main(*sys.argv[1:])
