# SPDX-License-Identifier: GPL-2.0-or-later
"""A run on the simulated machine as ``staleline/run/1``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from staleline.simulation.emulator import BuiltMachine
from staleline.simulation.judgedrun import ControlledRun, JudgedRun
from staleline.simulation.observation import Chain, LineAccess, RunOutcome, SeenRun
from staleline.simulation.places import NamedPlaces
from staleline.simulation.prediction import Prediction

__all__ = ["run_document"]

_COUNTS = ("destroyed_loads", "destroyed_fetches", "stale_loads", "wrong_alias_loads")


def run_document(controlled: ControlledRun, emulator: BuiltMachine) -> dict[str, Any]:
    """The JSON document."""
    question, experiment = controlled.question, controlled.question.experiment
    return {
        "schema": "staleline/run/1",
        "machine": {
            "build": emulator.key,
            "cpu": str(experiment.machine),
            "cpus": experiment.cpus,
            "megabytes": experiment.megabytes,
            "mem_encrypt": experiment.mem_encrypt,
            "caches": {name: str(value) for name, value in experiment.caches.items()},
        },
        "kernel": _image(question.kernel, controlled.run.places, 1, experiment.whole_command_line),
        "next": _image(
            question.following, controlled.run.places, 2, experiment.whole_next_command_line
        ),
        "path": str(experiment.path),
        "without": None if question.without is None else str(question.without),
        "run": _told(controlled.run),
        "controls": [_told(control) for control in controlled.controls],
        "to_blame": controlled.to_blame,
    }


def _image(file: str, places: NamedPlaces, number: int, command_line: str) -> dict[str, Any]:
    image = places.kernel if number == 1 else places.following
    release, build_id = (image.release, image.build_id) if image else (None, None)
    return {"file": file, "release": release, "build_id": build_id, "command_line": command_line}


def _told(told: JudgedRun) -> dict[str, Any]:
    return {
        "name": told.name,
        "predicted": None if told.prediction is None else _prediction(told.prediction),
        "observed": _observation(told.seen, told.places),
        "disagreement": told.disagreement,
    }


def _prediction(prediction: Prediction) -> dict[str, Any]:
    return {
        "verdict": str(prediction.verdict),
        "because": prediction.because,
        "broken": prediction.broken,
        "role": prediction.role,
        "flushes": {str(site): flushes for site, flushes in prediction.flushes.items()},
        "unknown": list(prediction.unknown),
    }


def _observation(seen: SeenRun, places: NamedPlaces) -> dict[str, Any]:
    jump = seen.handover.tick if seen.handover else None
    why = seen.not_observed_because if seen.outcome is RunOutcome.NOT_OBSERVED else None
    return {
        "outcome": str(seen.outcome),
        "not_observed_because": why,
        "ending": str(seen.ending),
        "up": list(seen.up),
        "worked": seen.worked,
        "fault": seen.fault or None,
        "destroyed": seen.destroyed,
        "counts": {name: seen.counts[name] for name in _COUNTS} if seen.counts else None,
        "kaslr_slide": places.slide,
        "handovers": [
            {
                "moment": handover.moment,
                "cpu": handover.cpu,
                "tick": handover.tick,
                "caches": [asdict(cache) for cache in handover.caches],
            }
            for handover in seen.handovers
        ],
        "flushes": [
            {
                "instruction": flush.instruction,
                "cpu": flush.at.cpu,
                "kernel": flush.at.kernel,
                "where": places(flush.at, before_handover=jump is None or flush.end <= jump),
                "held": flush.held,
                "dirty": flush.dirty,
                "destroyed": flush.destroyed,
                "before_jump": jump is not None and flush.end <= jump,
            }
            for flush in seen.flushes
        ],
        "races": list(seen.races),
        "chains": [_chain(chain, places) for chain in seen.chains],
        "last_lines": list(seen.last_lines),
        "cpu_seconds": round(seen.seconds, 1),
    }


def _chain(chain: Chain, places: NamedPlaces) -> dict[str, Any]:
    return {
        "event": chain.event,
        "line": f"{chain.line:#x}",
        "alias": chain.alias,
        "dirtied": None if chain.dirtied is None else _store(chain.dirtied, places),
        "newest": _store(chain.newest, places),
        "newest_alias": chain.newest_alias,
        "by": _store(chain.by, places),
        "cause": chain.cause or None,
        "times": chain.times,
    }


def _store(store: LineAccess, places: NamedPlaces) -> dict[str, Any]:
    return {
        "cpu": store.cpu,
        "kernel": store.kernel,
        "mode": store.mode,
        "where": places(store),
    }
