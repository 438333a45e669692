"""The inference service: predictions on request, and one for each new ensemble member.

``GET /healthz`` · ``GET /model`` · ``GET /predict?year=&scenario=[&lat=&lon=]`` ·
``POST /events`` takes a CloudEvent that tells of a new member and answers with a CloudEvent that
holds the prediction, which the federation publishes. Knows no token and no address but its own:
the port that ``PORT`` names.
"""

import json
import os
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from climate import SCENARIOS, Emulator, read_member

PORT = int(os.environ.get("PORT", "8080"))  # noqa: TID251 - a container has no other settings
SCENARIO = "A1B"
BODY_LIMIT_BYTES = 64 * 1024


class Twin:
    """The emulator in service, and where new members appear."""

    def __init__(self, model: Path, ensemble: Path) -> None:
        self.emulator = Emulator.load(model)
        self.figures = json.loads(next(model.rglob("figures.json")).read_text())
        self._ensemble = ensemble

    def predict(self, question: dict[str, str]) -> dict[str, Any]:
        """Answer ``year``, ``scenario`` and, for one cell, ``lat`` and ``lon``."""
        year, scenario = float(question["year"]), question.get("scenario", SCENARIO)
        if scenario not in SCENARIOS or not 1800 <= year <= 2200:
            raise ValueError(f"scenario is one of {SCENARIOS}, year from 1800 to 2200")
        if "lat" in question:
            place = float(question["lat"]), float(question["lon"])
            temperature_k = self.emulator.predict_cell_k(year, scenario, *place)
        else:
            temperature_k = self.emulator.predict_mean_k(year, scenario)
        answer = {"year": year, "scenario": scenario, "temperature_k": temperature_k}
        return {**answer, "model_version": self.figures["version"]}

    def observe(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """Predict the year of a new member and compare; none while its file is not here yet."""
        name = Path(event["data"]["name"]).name
        found = next(self._ensemble.rglob(name), None)
        if found is None:
            return None
        member = read_member(found, self.emulator.latitudes, self.emulator.longitudes)
        predicted_k = self.emulator.predict_mean_k(member.year, SCENARIO)
        return {
            "specversion": "1.0",
            "id": f"prediction-{self.figures['version']}-{event['id']}",
            "source": "urn:climate-twin:inference",
            "type": "org.climate.prediction",
            "subject": name,
            "datacontenttype": "application/json",
            "data": {
                "member": member.number,
                "year": member.year,
                "predicted_k": predicted_k,
                "observed_k": member.mean_k,
                "model_version": self.figures["version"],
            },
        }


class Door(BaseHTTPRequestHandler):
    """HTTP/1.1 with connections kept open."""

    protocol_version = "HTTP/1.1"
    twin: Twin

    def do_GET(self) -> None:
        """Answer health, model and predictions."""
        url = urlsplit(self.path)
        if url.path == "/healthz":
            self._answer(HTTPStatus.OK, {"status": "ok"})
        elif url.path == "/model":
            self._answer(HTTPStatus.OK, self.twin.figures)
        elif url.path == "/predict":
            question = {key: values[0] for key, values in parse_qs(url.query).items()}
            try:
                self._answer(HTTPStatus.OK, self.twin.predict(question))
            except (KeyError, ValueError) as error:
                self._answer(HTTPStatus.BAD_REQUEST, {"detail": str(error)})
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"detail": "there are /model and /predict"})

    def do_POST(self) -> None:
        """Take a CloudEvent, answer with one."""
        length = int(self.headers.get("Content-Length", 0))
        if length > BODY_LIMIT_BYTES or urlsplit(self.path).path != "/events":
            self.close_connection = True
            self._answer(HTTPStatus.NOT_FOUND, {"detail": "post CloudEvents to /events"})
            return
        try:
            prediction = self.twin.observe(json.loads(self.rfile.read(length)))
        except (KeyError, ValueError, TypeError) as error:
            self._answer(HTTPStatus.BAD_REQUEST, {"detail": repr(error)})
            return
        if prediction is None:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"detail": "its file is not here yet"})
        else:
            self._answer(HTTPStatus.OK, prediction, "application/cloudevents+json")

    def _answer(self, status: int, body: Any, kind: str = "application/json") -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


if __name__ == "__main__":
    Door.twin = Twin(*map(Path, sys.argv[1:3]))
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Door)
    print(f"serving model version {Door.twin.figures['version']}", flush=True)
    server.serve_forever()
