"""Fixtures that every test group shares."""

from pathlib import Path

import pytest

ARTEFACTS = Path(__file__).parent / "data" / "artefacts"


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Real logs, layer JSON, profiles and caches; sources and licences in its MANIFEST.tsv."""
    return ARTEFACTS
