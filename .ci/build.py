"""Build the sdist and the wheel of the last commit, twice, and compare all their bits.

``python .ci/build.py dist`` writes both to the folder ``dist``. The Python that runs it
needs setuptools, of the version in constraints.txt: the wheel has it in its metadata.
"""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_{}(sys.argv[1])"


def build(out: Path, epoch: int) -> list[Path]:
    """Build the sdist from the files of the commit, and the wheel from the sdist."""
    with tempfile.TemporaryDirectory() as folder:
        checkout, unpacked = Path(folder, "checkout"), Path(folder, "unpacked")
        archive = subprocess.check_output(["git", "archive", "HEAD"], cwd=ROOT)
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(checkout, filter="data")
        sdist = call_setuptools("sdist", checkout, out, epoch)
        normalize(sdist, epoch)
        with tarfile.open(sdist) as files:
            files.extractall(unpacked, filter="data")
        (source,) = unpacked.iterdir()
        return [sdist, call_setuptools("wheel", source, out, epoch)]


def call_setuptools(kind: str, source: Path, out: Path, epoch: int) -> Path:
    """Build an archive of a folder with sources; return its path."""
    made = out / kind
    made.mkdir(parents=True)
    command = [sys.executable, "-c", BUILD.format(kind), str(made)]
    # The path of this script, first in sys.path here, is not in that of the new process.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    done = subprocess.run(
        command, cwd=source, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}")
    (archive,) = made.iterdir()
    return archive


def normalize(sdist: Path, epoch: int) -> None:
    """Write an sdist anew: sorted, without owners, with one time and two modes.

    Setuptools takes times, owners and modes from the files, and the order from the disk.
    """
    with (
        tarfile.open(fileobj=io.BytesIO(sdist.read_bytes())) as old,
        sdist.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w") as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            content = old.extractfile(member)
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, member.size, epoch
            plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(plain, content)


def main(out: Path) -> None:
    """Build twice; write the archives to a folder if they are equal."""
    os.umask(0o022)
    when = ["git", "log", "-1", "--format=%ct"]
    given = os.environ.get("SOURCE_DATE_EPOCH")
    epoch = int(given or subprocess.check_output(when, cwd=ROOT))
    with tempfile.TemporaryDirectory() as folder:
        first, second = (build(Path(folder, name), epoch) for name in ("1", "2"))
        out.mkdir(parents=True, exist_ok=True)
        for one, other in zip(first, second, strict=True):
            if one.read_bytes() != other.read_bytes():
                sys.exit(f"{one.name} is different each time")
            print(hashlib.sha256(one.read_bytes()).hexdigest(), one.name)
            shutil.copyfile(one, out / one.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
