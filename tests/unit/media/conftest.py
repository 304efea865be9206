from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from media_files import RATE_HZ, sound


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same five seconds as WAV, FLAC, Ogg Vorbis and MP3."""
    folder = tmp_path_factory.mktemp("music")
    files = {}
    for kind, subtype in (("wav", "PCM_16"), ("flac", "PCM_16"), ("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III")):
        files[kind] = folder / f"tone.{kind}"
        soundfile.write(files[kind], sound(), RATE_HZ, format=kind.upper(), subtype=subtype)
    return files
