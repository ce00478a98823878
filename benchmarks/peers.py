"""Install the packages of a benchmark into a folder of their own, and find them.

They use the torch and numpy of skae, so that all systems run with the same ones. So the
packages are installed without their dependencies, into a folder that is appended to the
path.
"""

import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / ".peers"


class Peers:
    """The pinned packages of one benchmark, in the folder ``.peers/NAME``."""

    def __init__(self, name: str, requirements: Path) -> None:
        self.folder = _FOLDER / name
        self.requirements = requirements

    def set_up(self) -> None:
        """Install the packages."""
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade"]
        command = [*pip, "--target", self.folder, "-r", self.requirements]
        subprocess.run(command, check=True)

    def activate(self) -> None:
        """Let the packages be imported; raise an error if they are missing."""
        if not self.folder.exists():
            raise SystemExit("Run this script with --setup first.")
        sys.path.append(str(self.folder))

    def versions(self) -> str:
        """Return the names and versions of the installed packages."""
        lines = self.requirements.read_text().splitlines()
        names = [line.partition("==")[0] for line in lines if "==" in line]
        return ", ".join(f"{name} {version(name)}" for name in names)


def package_folder(package: str) -> Path:
    """Return the folder of an installed package, which is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed. Run this script with --setup.")
    return Path(spec.origin).parent
