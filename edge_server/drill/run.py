"""One drill from start to end: load, baseline, each fault with its recovery, verdict.

Process      the drill; everything runs in one event loop. Changes nothing on the machine but
             what its faults do, and puts that back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from edge_server.drill import judge as verdict
from edge_server.drill.clients import Client, sweep
from edge_server.drill.faults import HEARTBEAT_SLACK_S, Means, Outcome, inject, why_not
from edge_server.drill.instance import NO_ANSWER, Instance
from edge_server.drill.journal import Journal, Loss
from edge_server.drill.judge import Check, Observed, Whole, Window
from edge_server.drill.plan import FAULTS, Phase, Plan, make_plan
from edge_server.drill.result import Done, Result, Settings
from edge_server.drill.targets import Object, Questions, discover
from edge_server.drill.watch import Watch, is_ready_between, steady_after
from edge_server.errors import EdgeError, ResourceError

WARM_UP_S = 0.5  # not judged: connections are opened, caches filled
_TICKED_S = 0.3  # workers add to their metrics files ten times a second
_TELL_EVERY_S = 0.25


class NothingToAskError(EdgeError):
    """The drill has no object to ask for."""

    exit_code = 2


Listener = Callable[[str, Journal], None]  # the phase, told a few times a second


class Drill:
    """One run against one instance."""

    def __init__(self, instance: Instance, settings: Settings, listener: Listener) -> None:
        self._instance = instance
        self._settings = settings
        self._listener = listener
        self._phase = "warm-up"
        self._journal = Journal()
        self._watch = Watch(instance)
        self._outcomes: list[Outcome] = []

    async def run(self) -> Result:
        """Run it.

        Raises:
            NothingToAskError: there is no object to ask for.
            PlanError: the time is too short.
            ResourceError: the instance is gone, or a fault cannot be injected here.
        """
        settings, instance = self._settings, self._instance
        heartbeat_s = instance.first.get("heartbeat_timeout_s")
        skipped = {name: why for name in settings.faults if (why := why_not(name, heartbeat_s))}
        wanted = [name for name in FAULTS if name in settings.faults and name not in skipped]
        fixed_s = {"stop-worker": (heartbeat_s or 0.0) + HEARTBEAT_SLACK_S}
        plan = make_plan(settings.seconds, wanted, fixed_s)
        try:
            result = await self._prepare()
            clients = self._make_clients(result.objects)
            means = Means(instance, clients, self._journal, settings, heartbeat_s)
            await self._with_load(clients, self._phases(result, means, plan))
            self._judge(result)
            await asyncio.sleep(_TICKED_S)
            result.after = await instance.metrics()
        except NO_ANSWER as error:
            raise ResourceError(f"the instance at {instance.admin} answers no more: {error!r}") from error
        result.faults += [Done(Observed(name, skipped=why)) for name, why in skipped.items()]
        return result

    async def _prepare(self) -> Result:
        settings, instance = self._settings, self._instance
        started_s = time.time()
        before = await instance.metrics()
        place = settings.through or instance.assets
        objects, problems = await discover(place, instance.first["packs"], settings.paths)
        if not objects and not problems:
            raise NothingToAskError(
                "nothing to ask for: a directory cannot be listed from outside; name files of it with --path"
            )
        return Result(started_s, settings, instance.first, objects, problems, self._journal, before=before)

    def _make_clients(self, objects: Sequence[Object]) -> list[Client]:
        settings = self._settings
        interval_s = settings.connections / settings.rate
        place = settings.through or self._instance.assets
        return [
            Client(number, place, Questions(objects, number), self._journal, interval_s)
            for number in range(settings.connections if objects else 0)
        ]

    async def _with_load(self, clients: list[Client], phases: Coroutine[Any, Any, None]) -> None:
        asking = [asyncio.ensure_future(client.run()) for client in clients]
        beside = [asyncio.ensure_future(task) for task in (sweep(clients), self._watch.run(), self._tell())]
        try:
            await phases
            for client in clients:
                client.stop()
            await asyncio.gather(*asking)
        finally:
            for task in (*asking, *beside):
                task.cancel()
            await asyncio.gather(*asking, *beside, return_exceptions=True)

    async def _tell(self) -> None:
        while True:
            self._listener(self._phase, self._journal)
            await asyncio.sleep(_TELL_EVERY_S)

    async def _phases(self, result: Result, means: Means, plan: Plan) -> None:
        limits = self._settings.limits
        await asyncio.sleep(WARM_UP_S)
        self._phase = "baseline"
        result.origin_s = start_s = time.monotonic()
        await asyncio.sleep(plan.baseline_s)
        stop_s = time.monotonic()
        result.baseline = Window.of(self._journal.between(start_s, stop_s))
        result.baseline_ready = is_ready_between(self._watch.looks, start_s, stop_s)
        wrong = self._journal.wrong_count
        whole = Whole(result.baseline, wrong, result.baseline.lost, result.baseline_ready)
        # Nothing is broken on purpose in an instance that is not well.
        is_well = all(check.passed for check in verdict.judge_baseline(result.baseline, whole, limits))
        if is_well and not wrong and not result.problems:
            for phase in plan.phases:
                await self._fault(result, means, phase)
        result.length_s = time.monotonic() - result.origin_s
        result.late_s = self._watch.late_s

    async def _fault(self, result: Result, means: Means, phase: Phase) -> None:
        self._phase = phase.fault
        outcome = await inject(phase.fault, means, phase.hold_s)
        self._phase = "recovery"
        stop_s = outcome.cleared_s + phase.recovery_s
        await asyncio.sleep(max(0.0, stop_s - time.monotonic()))
        stop_s = max(stop_s, time.monotonic())
        self._outcomes.append(outcome)
        origin_s, cleared_s = result.origin_s, outcome.cleared_s
        result.faults.append(
            Done(
                self._observe(phase.fault, outcome, stop_s),
                outcome.began_s - origin_s,
                cleared_s - origin_s,
                stop_s - origin_s,
                Window.of(self._journal.between(outcome.began_s, cleared_s)),
                Window.of(self._journal.between(cleared_s, stop_s)),
            )
        )

    def _observe(self, name: str, outcome: Outcome, stop_s: float) -> Observed:
        journal = self._journal
        halfway_s = (outcome.cleared_s + stop_s) / 2
        bystanders = None
        if outcome.is_proxied:
            rows = journal.between(outcome.began_s, outcome.cleared_s)
            bystanders = Window.of(row for row in rows if not row.is_proxied)
        return Observed(
            name,
            tuple(outcome.proofs),
            has_victim=outcome.has_victim,
            replaced_s=outcome.replaced_s,
            steady_s=steady_after(self._watch.looks, outcome.cleared_s, stop_s),
            max_explained=outcome.resets or self._settings.connections * (outcome.killed_s is not None),
            after=Window.of(journal.between(halfway_s, stop_s)),
            bystanders=bystanders,
        )

    def _judge(self, result: Result) -> None:
        """Losses are counted last, when all that were under way have come to an end."""
        journal = self._journal
        outside = journal.lost_count - len(journal.losses)
        counted = [[0, 0] for _ in self._outcomes]  # unexplained, explained
        for loss in journal.losses:
            index = self._phase_of(loss)
            if index is None:
                outside += 1
            else:
                counted[index][self._outcomes[index].explains(loss)] += 1
        for done, (unexplained, explained) in zip(result.faults, counted, strict=True):
            done.observed = done.observed.with_losses(unexplained, explained)
        whole = Whole(Window.of(journal.rows()), journal.wrong_count, outside, result.baseline_ready)
        observed = [done.observed for done in result.faults]
        result.checks = verdict.judge(result.baseline, observed, whole, self._settings.limits)
        result.checks += [
            Check("", "whole objects at the start", words, "right", False) for words in result.problems
        ]

    def _phase_of(self, loss: Loss) -> int | None:
        """Return the phase in which a request was lost, whenever it had been sent; None before all faults."""
        begun = [index for index, outcome in enumerate(self._outcomes) if outcome.began_s <= loss.ended_s]
        return begun[-1] if begun else None
