"""The class that TorchServe loads: a shell round sum3dcam.serving, which must be installed in the server's environment.

TorchServe imports this file by its base name out of the archive and wants exactly one class in it.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from sum3dcam.serving.logs import log_as_json
from sum3dcam.serving.occupancy import occupied
from sum3dcam.serving.predictor import Predictor
from sum3dcam.serving.telemetry import Telemetry, read_caller
from sum3dcam.serving.worker import start_predictor


class Sum3DCamHandler:
    """Answers batches of videos; every row has its own options, status and error."""

    def __init__(self) -> None:
        self._started: tuple[Predictor, Telemetry] | None = None

    def initialize(self, context: Any) -> None:
        """Loads the archive's artefact on the device that TorchServe gives this worker.

        Raises:
            ArtifactError: it cannot be served.
        """
        log_as_json("sum3dcam")
        properties, version = context.system_properties, context.manifest["model"]["modelVersion"]
        predictor = start_predictor(
            Path(properties["model_dir"]),
            gpu_id=properties.get("gpu_id"),
            model_config=context.model_yaml_config,
            version=version,
        )
        self._started = predictor, Telemetry(context.model_name, version=version, engines=predictor.engines)

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """The rows' replies as bytes, in order, with each one's content type and HTTP status on the context.

        Raises:
            RuntimeError: called before initialize.
        """
        if self._started is None:
            raise RuntimeError("TorchServe calls initialize before handle")
        predictor, telemetry = self._started
        with occupied():
            answers = predictor.answer(data)
        for item, (reply, _) in enumerate(answers):
            context.set_response_content_type(item, reply.content_type)
            context.set_response_status(code=reply.http_status, phrase=HTTPStatus(reply.http_status).phrase, idx=item)
        callers = [
            read_caller(context.get_all_request_header(item), server_id=context.get_request_id(item))
            for item in range(len(answers))
        ]
        telemetry.tell([report for _, report in answers], callers=callers)
        return [reply.body for reply, _ in answers]
