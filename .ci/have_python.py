"""have_python.py 3.12: exits with 0 if a working interpreter of that version is on PATH."""

import os
import subprocess
import sys

for directory in os.get_exec_path():
    candidate = os.path.join(directory, f"python{sys.argv[1]}")
    # A shim of pyenv is there for every installed version, and fails for those that are not selected.
    if os.access(candidate, os.X_OK) and subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
        sys.exit(0)
sys.exit(1)
