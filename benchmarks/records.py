"""Keep results as JSON lines, so that a run can be stopped, resumed and divided."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Records:
    """The results in a file, one line for each combination of the key fields."""

    def __init__(self, path: Path, key: Sequence[str]) -> None:
        self.path = path
        self.key = tuple(key)

    def read(self) -> list[Record]:
        """Return the results; of several with one key, the last."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().splitlines()
        records = [json.loads(line) for line in lines if line.strip()]
        return list({self._key(record): record for record in records}.values())

    def has(self, **fields: Any) -> bool:
        """Return whether there is a result with these key fields.

        The file is read at each call, because several processes may write to it.
        """
        return self._key(fields) in map(self._key, self.read())

    def append(self, record: Record) -> None:
        """Write a result to the end of the file, and print it."""
        line = json.dumps(record)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One short write in append mode, so that lines of several processes stay whole.
        with self.path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def _key(self, record: Record) -> tuple[Any, ...]:
        """Return the key of a result."""
        return tuple(record[name] for name in self.key)
