"""Tracks as files and as frames: what a file is, the cache that peers keep, decoding ahead of the sound.

May use files, threads and libsndfile. Knows no socket, no HTTP, no event loop and no
host: bytes come from whoever calls :meth:`musicsyncd.media.stored.StoredTrack.write`.
"""
