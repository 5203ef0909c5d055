"""What the golden scripts share: where fixtures go, which versions made them, how JSON is written."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LM_GOLDEN = ROOT / "crates" / "pavlov-lm" / "tests" / "golden"
TRAIN_GOLDEN = ROOT / "crates" / "pavlov-train" / "tests" / "golden"


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of the named packages, recorded in every fixture."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def write_json(path: Path, value) -> None:
    """Writes JSON that shows small changes as small diffs; NaN and infinity are refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")
