"""What the predictor alone answers: python ask_predictor.py ARCHIVE < requests > replies, as ask_triton.py has them."""

import json
import sys
import zipfile
from base64 import b64decode, b64encode
from pathlib import Path
from tempfile import TemporaryDirectory

from sum3dcam.serving.archive import read_archive
from sum3dcam.serving.worker import start_predictor

with TemporaryDirectory() as folder:
    archive = read_archive(Path(sys.argv[1]))
    with zipfile.ZipFile(archive.path) as packed:
        packed.extractall(folder)
    predictor = start_predictor(Path(folder), gpu_id=None, model_config=archive.config, version=archive.version)
    rows = [{**options, "data": b64decode(data)} for data, options in json.load(sys.stdin)]
    json.dump([b64encode(predictor.predict([row])[0].body).decode() for row in rows], sys.stdout)
