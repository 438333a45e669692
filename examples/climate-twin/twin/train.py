"""The training job: scenarios in, figures, pictures and the emulator out."""

import json
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from climate import Emulator, Scenario, held_out_error_k, read_scenarios

mpl.use("Agg")
import matplotlib.pyplot as plt

GAP_YEAR = 2099


def main(inputs: Path, outputs: Path) -> None:
    """Train on what stands below `inputs` and write the model below `outputs`."""
    print("training started", flush=True)
    scenarios = read_scenarios(inputs)
    a1b, e1 = scenarios["A1B"], scenarios["E1"]
    emulator = Emulator(a1b.latitudes, a1b.longitudes).fit(scenarios)
    year = min(GAP_YEAR, int(a1b.years[-1]))
    gap_k = a1b.fields_k[a1b.years == year][0] - e1.fields_k[e1.years == year][0]
    figures = {
        "gap_year": year,
        "gap_k": float(
            a1b.area_mean_k()[a1b.years == year][0] - e1.area_mean_k()[e1.years == year][0]
        ),
        "warming_k": {name: _warming_k(scenario) for name, scenario in scenarios.items()},
        "held_out_rmse_k": held_out_error_k(scenarios),
        "years": [int(a1b.years[0]), int(a1b.years[-1])],
        "version": 1,
    }
    outputs.mkdir(parents=True, exist_ok=True)
    emulator.save(outputs)
    (outputs / "figures.json").write_text(json.dumps(figures, indent=2))
    draw_warming(scenarios, outputs / "warming.png")
    draw_map(a1b, gap_k, f"A1B minus E1 in {year}", outputs / "gap-map.png")
    print(json.dumps(figures), flush=True)


def _warming_k(scenario: Scenario) -> float:
    """Return the last decade's mean minus that of the years 1961-1990, in kelvin."""
    means_k = scenario.area_mean_k()
    before = (scenario.years >= 1961) & (scenario.years <= 1990)
    return float(means_k[-10:].mean() - means_k[before].mean())


def draw_warming(scenarios: dict[str, Scenario], path: Path) -> None:
    """Draw the yearly means of all scenarios."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, scenario in sorted(scenarios.items()):
        axes.plot(scenario.years, scenario.area_mean_k() - 273.15, label=name)
    axes.set(title="North America, yearly mean air temperature", xlabel="year", ylabel="°C")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=90)


def draw_map(grid: Scenario, field_k: np.ndarray, title: str, path: Path) -> None:
    """Draw a field over the region."""
    figure, axes = plt.subplots(figsize=(7, 4))
    mesh = axes.pcolormesh(grid.longitudes, grid.latitudes, field_k, cmap="inferno")
    figure.colorbar(mesh, label="K")
    axes.set(title=title, xlabel="longitude (° E)", ylabel="latitude (° N)")
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
