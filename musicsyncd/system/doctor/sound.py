"""Checks of the sound card: whether it can be had, what its rate and its pointer are like, and whether it runs dry.

While a speaker's daemon has the card, the daemon is asked; else the card is opened (:mod:`.listening`).
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from musicsyncd.system.doctor.finding import Finding, Patient
from musicsyncd.system.local_peers import local_peers
from musicsyncd.system.supervision import own_command
from musicsyncd.units import NS_PER_S, ns_to_us

_START_S = 20.0
"""Besides the listening: PortAudio looks at every card, and a USB card may have to wake up."""

SOUND_SERVERS = ("default", "pulse", "pipewire", "sysdefault", "jack")
"""Names under which ALSA and PortAudio have something else than a card itself."""

FAIR_RATE_PPM = 200.0
"""Crystals are within 100 ppm; what is further off is a card that resamples, or counts wrongly."""

FAIR_STEP_US = 2_000.0
"""By how much the pointer may move at once: USB cards do by 1 ms, and it is found out where it is between."""


def check_sound(patient: Patient) -> Iterator[Finding]:
    """Look at the card that a speaker here plays on, or would."""
    if patient.is_host_only:
        yield Finding("sound card", "skipped", "no speaker runs here, a host needs none")
        return
    if patient.speakers:
        yield from _of_speakers(patient)
        return
    yield from judge_heard(_heard(patient.device, patient.sound_s))


def _of_speakers(patient: Patient) -> Iterator[Finding]:
    """Ask the daemons twice, so that it is seen whether cards run dry now and not long ago."""
    before = {_name(one): one for one in patient.speakers}
    time.sleep(patient.sound_s)
    after = local_peers(patient.paths.runtime_dir) if patient.sound_s else patient.speakers
    for account in after:
        yield from judge_speaker(account, before.get(_name(account), account), patient.sound_s)


def _name(account: dict[str, Any]) -> str:
    return str(account.get("speaker", {}).get("id"))


def judge_speaker(account: dict[str, Any], before: dict[str, Any], seconds: float) -> Iterator[Finding]:
    """Judge a speaker's card by what its daemon says.

    Args:
        account: now.
        before: some seconds ago.
        seconds: between the two.
    """
    speaker, card = account.get("speaker", {}), account.get("card")
    name = f"sound card of {speaker.get('name')}"
    if card is None:
        fault = speaker.get("fault") or "it has no sound card"
        yield Finding(name, "bad", str(fault), "plug it in, free it, or name another: `musicsyncd devices` lists them")
        return
    then = before.get("card") or card
    yield from judge_heard(
        {
            **card,
            "underruns": card["underruns"] - then["underruns"],
            "underruns_before": then["underruns"],
            "discontinuities": card["discontinuities"] - then["discontinuities"],
            "listened_s": seconds,
        },
        name,
    )
    if speaker.get("fault"):
        yield Finding(name, "bad", str(speaker["fault"]), "see `musicsyncd status`")


def _heard(device: str | None, seconds: float) -> dict[str, Any]:
    asked = json.dumps({"output": "portaudio", "device": device, "seconds": seconds})
    command = own_command("musicsyncd.system.doctor.listening", asked)
    try:
        # What ALSA has to say of every card that it does not like is of no use to anybody.
        done = subprocess.run(command, capture_output=True, text=True, timeout=_START_S + seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"error": "the sound system does not answer: a sound card or a sound server hangs"}
    lines = done.stdout.strip().splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, ValueError):
        found = None
    return found if isinstance(found, dict) else {"error": f"the sound system ends who uses it ({done.returncode})"}


def judge_heard(heard: dict[str, Any], name: str = "sound card") -> Iterator[Finding]:
    """Judge a card.

    Args:
        heard: :class:`.listening.Heard` as JSON, or with ``error`` only.
        name: to be given to the findings.
    """
    if "error" in heard:
        yield Finding(name, "bad", str(heard["error"]), "`musicsyncd devices` lists what there is")
        return
    what = f"{heard['output']} at {heard['rate_hz']} Hz, {heard['channels']} channels"
    seconds = heard["listened_s"]
    if heard.get("blocks") == 0 and seconds:
        yield Finding(name, "bad", f"{what}: it opens and asks for no sound", "unplug it, or restart the machine")
        return
    if heard["output"].partition(":")[0] in SOUND_SERVERS:
        advice = "--device hw:… (see `musicsyncd devices`) has the card itself, whose time is known better"
        yield Finding(name, "advice", f"{what}: it opens, perhaps through a sound server", advice)
    else:
        yield Finding(name, "good", f"{what}: it opens")
    if not seconds:
        yield Finding(f"{name}: rate", "skipped", "not listened to, for want of time (--quick)")
        return
    yield from _judge_time(heard, name)
    yield _judge_underruns(heard, name)


def _judge_time(heard: dict[str, Any], name: str) -> Iterator[Finding]:
    ppm, uncertainty_us = heard["card_ppm"], heard["uncertainty_us"]
    if not heard["tells_its_time"]:
        yield Finding(
            f"{name}: clock",
            "advice",
            "it does not say when its frames sound: they are counted, and the buffer is guessed",
            "use the card itself (hw:…, see `musicsyncd devices`) and no sound server; set `musicsyncd delay` by ear",
        )
    known = "" if uncertainty_us is None else f", known to {uncertainty_us:.0f} µs"
    rate = f"{heard['rate_hz'] * (1 + ppm / 1e6):.2f} Hz ({ppm:+.1f} ppm){known}"
    if abs(ppm) > FAIR_RATE_PPM:
        yield Finding(
            f"{name}: rate",
            "advice",
            f"{rate}: further off than crystals are",
            "listen for longer; if it stays, use the card itself (hw:…) or another rate (--rate)",
        )
    else:
        yield Finding(f"{name}: rate", "good", rate)
    frames = heard["pointer_frames"]
    step_us = ns_to_us(frames * NS_PER_S / heard["rate_hz"])
    said = "its pointer moves frame by frame" if frames <= 1 else f"its pointer moves {frames} frames at once"
    if step_us > FAIR_STEP_US:
        advice = "it is found out where it is in between; a card of another kind is more exact from the start"
        yield Finding(f"{name}: pointer", "advice", f"{said} ({step_us / 1000:.1f} ms)", advice)
    else:
        yield Finding(f"{name}: pointer", "good", said)


def _judge_underruns(heard: dict[str, Any], name: str) -> Finding:
    count, seconds = heard["underruns"], heard["listened_s"]
    if count:
        return Finding(
            f"{name}: underruns",
            "bad",
            f"{count} in {seconds:g} s: the sound has gaps",
            "more --buffer-ms; see governor and permissions below, and what else keeps this machine busy",
        )
    jumps = heard["discontinuities"]
    if jumps:
        return Finding(
            f"{name}: underruns", "advice", f"none in {seconds:g} s, but its time jumped {jumps} times", "look again"
        )
    before = heard.get("underruns_before") or 0
    since = f"; {before} since its start" if before else ""
    return Finding(f"{name}: underruns", "good", f"none in {seconds:g} s{since}")
