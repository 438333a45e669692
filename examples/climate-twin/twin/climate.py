"""What the twin knows of climate: reading the files, area means, and the emulator.

Runs inside the container. Reads NetCDF (scenarios) and PP (ensemble members) with Iris; knows
nothing of where the files came from or who asks.
"""

from dataclasses import dataclass
from pathlib import Path

import iris
import iris.analysis.cartography
import iris.coord_categorisation
import joblib
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

iris.FUTURE.date_microseconds = True
SCENARIOS = ("A1B", "E1")
MODEL_FILE = "emulator.joblib"
HELD_OUT_EVERY = 5


@dataclass(frozen=True)
class Scenario:
    """Yearly mean temperature of one scenario.

    ``years`` has shape (n,), ``fields_k`` (n, latitude, longitude) in kelvin.
    """

    name: str
    years: np.ndarray
    fields_k: np.ndarray
    latitudes: np.ndarray
    longitudes: np.ndarray

    def area_mean_k(self) -> np.ndarray:
        """Return the area-weighted mean of each year, shape (n,), in kelvin."""
        return area_mean_k(self.fields_k, self.latitudes)


def area_mean_k(fields_k: np.ndarray, latitudes: np.ndarray) -> np.ndarray:
    """Return the mean over the last two axes, each row weighted by the cosine of its latitude."""
    weights = np.cos(np.deg2rad(latitudes))[:, np.newaxis] * np.ones(fields_k.shape[-1])
    return (fields_k * weights).sum(axis=(-2, -1)) / weights.sum()


def read_scenario(path: Path) -> Scenario:
    """Read a scenario's file and average it by calendar year."""
    cube = iris.load_cube(str(path))
    iris.coord_categorisation.add_year(cube, "time")
    latitudes, longitudes = (cube.coord(axis).points for axis in ("latitude", "longitude"))
    all_years = cube.coord("year").points
    years = np.unique(all_years)
    data = np.asarray(cube.data, dtype=float)
    fields_k = np.stack([data[all_years == year].mean(axis=0) for year in years])
    name = str(cube.attributes["Model scenario"])
    return Scenario(name, years, fields_k, latitudes, longitudes)


def read_scenarios(folder: Path) -> dict[str, Scenario]:
    """Read all scenarios of a dataset, by name."""
    found = [read_scenario(path) for path in sorted(folder.rglob("*.nc"))]
    return {scenario.name: scenario for scenario in found}


@dataclass(frozen=True)
class Member:
    """One ensemble member over the emulator's region: months, and their mean field in kelvin."""

    number: int
    year: int
    mean_k: float
    field_k: np.ndarray


def read_member(path: Path, latitudes: np.ndarray, longitudes: np.ndarray) -> Member:
    """Read a member and bring its time mean onto the emulator's grid by linear interpolation."""
    cube = iris.load_cube(str(path), "surface_temperature")
    mean = cube.collapsed("time", iris.analysis.MEAN)
    grid = [("latitude", latitudes), ("longitude", longitudes)]
    field_k = np.asarray(mean.interpolate(grid, iris.analysis.Linear()).data, dtype=float)
    year = int(cube.coord("time").units.num2date(cube.coord("time").points[0]).year)
    return Member(
        int(path.stem.rpartition("_")[2]), year, float(area_mean_k(field_k, latitudes)), field_k
    )


class Emulator:
    """Temperature of every cell of the region by year and scenario, in kelvin.

    Few leading patterns of the fields (PCA) are regressed on a low polynomial of the year for each
    scenario; `bias_k` is what an ensemble of forecasts told afterwards, per cell.
    """

    def __init__(self, latitudes: np.ndarray, longitudes: np.ndarray) -> None:
        self.latitudes, self.longitudes = latitudes, longitudes
        self.patterns = PCA(n_components=4)
        self.trend = make_pipeline(PolynomialFeatures(3), StandardScaler(), Ridge(alpha=1.0))
        self.bias_k = np.zeros((len(latitudes), len(longitudes)))

    def fit(self, scenarios: dict[str, Scenario], *, hold_out: bool = False) -> "Emulator":
        """Learn from all years, or from all but every fifth."""
        x, y = _rows(scenarios)
        kept = ~_held_out(x) if hold_out else np.ones(len(x), dtype=bool)
        self.trend.fit(x[kept], self.patterns.fit_transform(y[kept]))
        return self

    def predict_k(self, year: float, scenario: str) -> np.ndarray:
        """Return the field of `year` in kelvin, shape (latitude, longitude)."""
        flat = self.patterns.inverse_transform(self.trend.predict([_features(year, scenario)]))
        return flat.reshape(self.bias_k.shape) + self.bias_k

    def predict_mean_k(self, year: float, scenario: str) -> float:
        """Return the area mean of `year` in kelvin."""
        return float(area_mean_k(self.predict_k(year, scenario), self.latitudes))

    def predict_cell_k(self, year: float, scenario: str, lat: float, lon: float) -> float:
        """Return the temperature of the cell nearest to a place, in kelvin."""
        row = int(np.abs(self.latitudes - lat).argmin())
        column = int(np.abs(self.longitudes - lon % 360).argmin())
        return float(self.predict_k(year, scenario)[row, column])

    def save(self, folder: Path) -> None:
        """Write the emulator into `folder`."""
        joblib.dump(self, folder / MODEL_FILE)

    @staticmethod
    def load(folder: Path) -> "Emulator":
        """Read the emulator that stands in `folder`."""
        return joblib.load(next(folder.rglob(MODEL_FILE)))


def held_out_error_k(scenarios: dict[str, Scenario]) -> float:
    """Return the root mean square error over all cells of the held-out years, in kelvin."""
    any_one = next(iter(scenarios.values()))
    emulator = Emulator(any_one.latitudes, any_one.longitudes).fit(scenarios, hold_out=True)
    x, y = _rows(scenarios)
    out = _held_out(x)
    predicted = emulator.patterns.inverse_transform(emulator.trend.predict(x[out]))
    return float(np.sqrt(((predicted - y[out]) ** 2).mean()))


def _features(year: float, scenario: str) -> list[float]:
    return [(year - 2000.0) / 100.0, float(SCENARIOS.index(scenario))]


def _rows(scenarios: dict[str, Scenario]) -> tuple[np.ndarray, np.ndarray]:
    x = [_features(year, name) for name, found in scenarios.items() for year in found.years]
    y = [field.ravel() for found in scenarios.values() for field in found.fields_k]
    return np.array(x), np.array(y)


def _held_out(x: np.ndarray) -> np.ndarray:
    return np.round(x[:, 0] * 100).astype(int) % HELD_OUT_EVERY == 0
