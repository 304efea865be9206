"""What the doctor prints, and what it ends with."""

import json

import pytest

from musicsyncd.system.doctor import examination
from musicsyncd.system.doctor.finding import Finding


@pytest.fixture
def findings(monkeypatch):
    found = [
        Finding("clock source", "good", "tsc"),
        Finding("Wi-Fi wlan0", "advice", "it saves power\x1b[2J", "switch it off"),
        Finding("port", "skipped", "not looked at"),
    ]
    patients = []

    def examine(patient):
        patients.append(patient)
        yield from found

    monkeypatch.setattr(examination, "examine", examine)
    monkeypatch.setattr(examination, "find_on_lan", lambda *_: None)
    monkeypatch.setattr(examination, "local_peers", lambda _: [])
    return found, patients


def test_a_line_for_each_finding_and_what_to_do(call, findings):
    result = call("doctor")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "good   clock source: tsc",
        "advice Wi-Fi wlan0: it saves power�[2J",
        "       → switch it off",
        "–      port: not looked at",
        "",
        "nothing keeps it from playing well, 1 piece of advice",
    ]


def test_it_fails_when_something_is_bad(call, findings):
    findings[0].append(Finding("disk", "bad", "it is full", "remove something"))
    result = call("doctor")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "1 thing to be seen to, 1 piece of advice"
    result = call("doctor", "--json")
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert shown["well"] is False
    assert shown["findings"][-1] == {
        "name": "disk",
        "verdict": "bad",
        "line": "it is full",
        "advice": "remove something",
    }


def test_quick_listens_to_no_card_and_waits_less(call, findings):
    _, patients = findings
    call("doctor", "--device", "hw:DAC,0")
    call("doctor", "--quick")
    call("doctor", "--listen", "300")
    assert [(one.sound_s, one.listen_s, one.device) for one in patients] == [
        (10.0, 5.0, "hw:DAC,0"),
        (0.0, 2.0, None),
        (10.0, 300.0, None),
    ]


def test_on_a_hosts_machine_the_host_is_asked(call, findings, host):
    host.answer("GET", "/api/status", {"peers": [{"name": "lamp"}]})
    call("doctor")
    (patient,) = findings[1]
    assert patient.host_status == {"peers": [{"name": "lamp"}]}
    assert patient.is_host_only
