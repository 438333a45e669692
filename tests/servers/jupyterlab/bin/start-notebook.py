#!/usr/bin/python3
"""Starts JupyterLab, or by its other name a hub's single-user server, as the published images do.

Wheels of the image lie in one folder: this says where their data and configuration are.
"""

import os
import sys
from pathlib import Path

import jupyterlab

MODULES = {"start-notebook.py": "jupyterlab", "jupyterhub-singleuser": "jupyterhub.singleuser"}
wheels = Path(jupyterlab.__file__).parents[1]
os.environ["JUPYTER_PATH"] = str(wheels / "share" / "jupyter")
os.environ["JUPYTER_CONFIG_PATH"] = str(wheels / "etc" / "jupyter")
os.environ["JUPYTERLAB_DIR"] = str(wheels / "share" / "jupyter" / "lab")
module = MODULES[Path(sys.argv[0]).name]
os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])
