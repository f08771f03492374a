"""`pyright --verifytypes`: every public name has a complete type, or this fails and says which has not."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any


def main() -> int:
    root = pathlib.Path(__file__).parent.parent
    pyright = pathlib.Path(sys.executable).parent / "pyright"
    with tempfile.TemporaryDirectory() as folder:
        # Installed, and not the checkout: pyright looks for py.typed where users have it.
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, str(root)]
        subprocess.run(install, check=True, capture_output=True)
        command = [str(pyright), "--verifytypes", "anyio_client", "--ignoreexternal", "--outputjson"]
        environment = {**os.environ, "PYTHONPATH": folder}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    report = json.loads(done.stdout)["typeCompleteness"]
    exported = [symbol for symbol in report["symbols"] if symbol["isExported"]]
    incomplete = [s for s in exported if not s["isTypeKnown"] or s["isTypeAmbiguous"]]
    # A leaf's class may have a base of its optional dependency, which this run does not see.
    incomplete = [s for s in incomplete if ".contrib." not in s["name"] or not _is_about_bases(s)]
    for symbol in incomplete:
        print(symbol["name"], *(d["message"] for d in symbol["diagnostics"]), sep="\n    ")
    print(f"types: {100 - 100 * len(incomplete) / len(exported):.1f} % of the public symbols complete")
    return int(bool(incomplete))


def _is_about_bases(symbol: dict[str, Any]) -> bool:
    return all(d["message"].startswith(("Type of metaclass", "Type of base class")) for d in symbol["diagnostics"])


if __name__ == "__main__":
    sys.exit(main())
