"""`pyright --verifytypes`: every public name has a complete type, or this fails and says which has not."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile


def main() -> int:
    root = pathlib.Path(__file__).parent.parent
    pyright = pathlib.Path(sys.executable).parent / "pyright"
    with tempfile.TemporaryDirectory() as folder:
        # Installed, and not the checkout: pyright looks for py.typed where users have it.
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, str(root)]
        subprocess.run(install, check=True, capture_output=True)
        command = [str(pyright), "--verifytypes", "anyio_client", "--ignoreexternal", "--outputjson"]
        command += ["--pythonpath", sys.executable]  # where the optional dependencies are, whose classes are ours' bases
        environment = {**os.environ, "PYTHONPATH": folder}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    report = json.loads(done.stdout)["typeCompleteness"]
    for symbol in report["symbols"]:
        if symbol["isExported"] and not (symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]):
            print(symbol["name"], *(d["message"] for d in symbol["diagnostics"]), sep="\n    ")
    score = report["completenessScore"]
    print(f"types: {100 * score:.1f} % of the public symbols complete")
    return int(score < 1)


if __name__ == "__main__":
    sys.exit(main())
