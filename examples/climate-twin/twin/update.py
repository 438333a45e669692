"""The update job: the closed ensemble against the present emulator; a corrected one comes out."""

import json
import sys
from pathlib import Path

import numpy as np
from climate import Emulator, read_member

SCENARIO = "A1B"


def main(model: Path, ensemble: Path, outputs: Path) -> None:
    """Measure the emulator's bias against the ensemble mean and write the corrected emulator."""
    print("update started", flush=True)
    emulator = Emulator.load(model)
    before = json.loads(next(model.rglob("figures.json")).read_text())
    members = [
        read_member(path, emulator.latitudes, emulator.longitudes)
        for path in sorted(ensemble.rglob("*.pp"))
    ]
    fields_k = np.stack([member.field_k for member in members])
    year = members[0].year
    bias_k = fields_k.mean(axis=0) - emulator.predict_k(year, SCENARIO)
    mean_before_k = emulator.predict_mean_k(year, SCENARIO)
    emulator.bias_k = emulator.bias_k + bias_k
    figures = {
        **before,
        "version": before["version"] + 1,
        "ensemble": {
            "members": len(members),
            "year": year,
            "mean_k": float(np.mean([member.mean_k for member in members])),
            "spread_k": float(np.std([member.mean_k for member in members], ddof=1)),
            "bias_k": emulator.predict_mean_k(year, SCENARIO) - mean_before_k,
        },
    }
    outputs.mkdir(parents=True, exist_ok=True)
    emulator.save(outputs)
    (outputs / "figures.json").write_text(json.dumps(figures, indent=2))
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
