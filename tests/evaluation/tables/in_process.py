"""A client of a predictor in this process: all of a server but the transport."""

from sum3dcam.client.reply import read_reply
from sum3dcam.client.request import option_texts
from sum3dcam.serving.predictor import Predictor


class InProcess:
    """`asked`: the options of each request."""

    def __init__(self, explain, labels):
        self._predictor, self.asked = Predictor(explain, labels), []

    def predict(self, data, **options):
        self.asked.append(options)
        (reply,) = self._predictor.predict([{"body": data, **option_texts(options)}])
        return read_reply(reply.body)

    def close(self):
        pass
