"""What Prometheus is told, read back by its own parser."""

from __future__ import annotations

import pytest
from host_rig import MS
from http_rig import KEYED, run
from prometheus_client.parser import text_string_to_metric_families

from musicsyncd.protocol import wire


def samples(text: str) -> dict[tuple[str, str], float]:
    """Return values by name and speaker, room, state, reason or code."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for one in family.samples:
            labels = one.labels
            key = next(
                (labels[name] for name in ("peer", "room", "state", "reason", "code", "version") if name in labels), ""
            )
            assert (one.name, key) not in found
            found[one.name, key] = one.value
    return found


async def asked(client) -> dict[tuple[str, str], float]:
    async with client.tcp.get("/metrics", headers=KEYED) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        return samples(await response.text())


def test_figures_are_in_base_units_and_of_speakers_that_are_here(tmp_path):
    async def test(client):
        host = client.host
        host.leave(host.report("gone"))
        peer_id = b"lamp...."
        clock = wire.ClockStats(-7_000_000, 3.5, 40_000, 300_000, 20_000, 0.02)
        playback = wire.PlaybackStats(
            state="together", sync_error_ns=-12_000, correction_ppm=4.25, underruns=3, lead_duration_ns=80 * MS
        )
        host._receive(wire.Report("lamp", "main", 0, 0, False, "0.1", clock, playback), peer_id, 1)
        found = await asked(client)
        for name, expected in (
            ("sync_error_seconds", -12e-6),
            ("clock_offset_seconds", -7e-3),
            ("clock_uncertainty_seconds", 40e-6),
            ("clock_skew_ppm", 3.5),
            ("round_trip_seconds", 300e-6),
            ("jitter_seconds", 20e-6),
            ("loss_ratio", 0.02),
            ("rate_correction_ppm", 4.25),
            ("lead_seconds", 0.08),
            ("underruns_total", 3),
        ):
            assert found[f"musicsyncd_{name}", "lamp"] == pytest.approx(expected), name
        assert not [key for key in found if key[1] == "gone"]
        assert (found["musicsyncd_peers", "together"], found["musicsyncd_peers", "away"]) == (1, 1)
        assert found["musicsyncd_info", "0.1.0"] == 1
        assert found["musicsyncd_dropped_datagrams_total", "unsealed"] == 3
        assert found["musicsyncd_room_volume_ratio", "main"] == 1.0
        assert found["musicsyncd_uptime_seconds", ""] == 5.0
        await client.ask("GET", "/nowhere")
        again = await asked(client)
        assert again["musicsyncd_http_requests_total", "404"] == 1
        assert again["musicsyncd_http_requests_total", "200"] >= 1

    run(test, tmp_path)


def test_speakers_of_one_name_and_names_with_quotes_spoil_nothing(tmp_path):
    async def test(client):
        for number, name in enumerate(("lamp", "lamp", 'a"b\\c')):
            client.host.report(name, peer_id=bytes([number + 1] * 8))
        async with client.tcp.get("/metrics", headers=KEYED) as response:
            text = await response.text()
        families = list(text_string_to_metric_families(text))
        errors = next(one for one in families if one.name == "musicsyncd_sync_error_seconds")
        assert len({one.labels["id"] for one in errors.samples}) == 3
        assert sorted(one.labels["peer"] for one in errors.samples) == ['a"b\\c', "lamp", "lamp"]

    run(test, tmp_path)


def test_it_is_told_to_who_has_a_token(tmp_path):
    async def test(client):
        assert (await client.ask("GET", "/metrics", headers={}))[0] == 401

    run(test, tmp_path)
