"""Runs trust.py without the type check: what is tested there are the library's own checks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_weights_from_anywhere_are_loaded_or_refused():
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).with_name("trust.py"))],
        env={**os.environ, "TOKENPOSE_TYPE_CHECK": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if process.returncode != 0 or " passed" not in process.stdout:
        pytest.fail(process.stdout[-20_000:] + process.stderr[-2_000:], pytrace=False)
