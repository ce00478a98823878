"""Find the packages that hold the tables of counts and of several kinds of columns."""

from pathlib import Path

from peers import Peers

PEERS = Peers("columns", Path(__file__).parent / "requirements.txt")
