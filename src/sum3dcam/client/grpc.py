"""The gRPC transport: one unary call per video, options as entries of the input map."""

from types import TracebackType
from typing import Self, Unpack

import grpc

from sum3dcam.client.inference_pb2 import PredictionsRequest
from sum3dcam.client.inference_pb2_grpc import InferenceAPIsServiceStub
from sum3dcam.client.prediction import Prediction
from sum3dcam.client.reply import read_reply
from sum3dcam.client.request import (
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_MODEL,
    DEFAULT_TIMEOUT_SECONDS,
    Options,
    check_size,
    option_texts,
    reply_too_large,
)
from sum3dcam.errors import (
    OverloadedError,
    RequestError,
    ServerError,
    Sum3DCamError,
    TooLargeError,
    UnreachableError,
)

# After a refused connection gRPC waits longer and longer, up to two minutes, and meanwhile fails every call at once;
# a restarted server should be found sooner.
MAX_RECONNECT_BACKOFF_MS = 1000


class GrpcClient:
    """Asks a server over gRPC through one channel. Safe to share between threads.

    Args:
        address: the server's "host:port".
        model: name under which the archive is served.
        timeout_seconds: longest wait for an answer.
        max_message_bytes: largest request sent and largest reply accepted (gRPC's own default is 4 MB).
    """

    def __init__(
        self,
        address: str,
        *,
        model: str = DEFAULT_MODEL,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ) -> None:
        self.address = address
        self.model = model
        self._timeout_seconds = timeout_seconds
        self._max_message_bytes = max_message_bytes
        self._channel = grpc.insecure_channel(
            address,
            options=(
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_BACKOFF_MS),
            ),
        )
        self._stub = InferenceAPIsServiceStub(self._channel)

    def predict(self, data: bytes, **options: Unpack[Options]) -> Prediction:
        """The server's answer to an encoded video or image, or an .npy clip.

        Raises:
            RequestError: what the server found wrong with the request, as the leaf it named.
            TooLargeError: request or reply beyond max_message_bytes.
            OverloadedError: the queue is full or no worker is up. Never retried here.
            UnreachableError: no answer.
            ServerError: any other failure of the server.
        """
        check_size(len(data), max_message_bytes=self._max_message_bytes)
        entries = {key: text.encode() for key, text in option_texts(options).items()}
        request = PredictionsRequest(model_name=self.model, input={**entries, "data": data})
        check_size(request.ByteSize(), max_message_bytes=self._max_message_bytes)
        try:
            reply = self._stub.Predictions(request, timeout=self._timeout_seconds)
        except grpc.RpcError as error:
            raise self._error(error) from error
        return read_reply(reply.prediction)

    def _error(self, error: grpc.RpcError) -> Sum3DCamError:
        """The typed error behind a failed call.

        TorchServe ends its own messages with a Java class: bare for a job it did not take, with its package for a job
        that failed in a worker. That is what tells a full queue, a dead worker and no server apart.
        """
        code, said = error.code(), str(error.details() or "")
        if "NotFoundException" in said:
            return RequestError(f"the server has no model '{self.model}'", got=said)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in said:
            return reply_too_large(got=said, max_message_bytes=self._max_message_bytes)
        if code is grpc.StatusCode.UNAVAILABLE and "InternalServerException" not in said:
            return UnreachableError(f"no answer from {self.address}: is the server up?", got=said)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return UnreachableError(f"no answer from {self.address} in time", got=f"{self._timeout_seconds} s")
        if code is grpc.StatusCode.CANCELLED:
            # What TorchServe does, without a word, to a request beyond its max_request_size.
            return TooLargeError("the server cancelled the request: is it larger than its max_request_size?", got=said)
        if code is grpc.StatusCode.INTERNAL and "org.pytorch.serve.http.InternalServerException" in said:
            return ServerError("the server failed", got=said)
        if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
            return OverloadedError("the server could not take the request now; try again later", got=said)
        return ServerError("the server failed", got=f"{code.name} {said}")

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
