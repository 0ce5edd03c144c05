"""Runs a sweep's jobs on a cluster, some at a time, and tells of each what happens, with its log."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from components.jobs.cluster import Cluster, Pod
from components.jobs.errors import FailedError, JobError, StoppedError
from components.jobs.manifest import TRAINJOB

Say = Callable[[str], None]
_TOLERATED = 10  # polls that the API server may leave unanswered, one after another


class Jobs:
    """Submits ``manifests``, at most ``parallel`` at once, and watches them to their ends.

    A job that is there already is adopted: its name says that its inputs are equal. ``finished`` is called with the
    label of each that completed, and says whether its result arrived.
    """

    def __init__(
        self,
        cluster: Cluster,
        manifests: Sequence[dict[str, Any]],
        *,
        parallel: int,
        say: Say,
        finished: Callable[[str], bool],
        poll: float,
    ) -> None:
        self.cluster, self.parallel, self.say, self.finished, self.poll = cluster, parallel, say, finished, poll
        self._waiting = list(manifests)
        self._active: dict[str, _Job] = {}
        self._lines: queue.Queue[str] = queue.Queue()
        self._failed: dict[str, int | None] = {}
        self._unanswered = 0

    def run(self, stopping: Callable[[], bool]) -> None:
        """Until all have ended. However it is left before, no job of it stays behind.

        :class:`StoppedError` when ``stopping`` became true; :class:`JobError` or :class:`FailedError` naming the jobs
        that failed, the former if one of them refused its input.
        """
        try:
            while self._waiting or self._active:
                if stopping():
                    raise StoppedError
                self._round()
                self._print()
                if self._waiting or self._active:
                    self._pause(stopping)
        finally:
            self._cancel()
            self._print()
        if self._failed:
            names = ", ".join(sorted(self._failed))
            kind = JobError if 2 in self._failed.values() else FailedError
            raise kind(f"{len(self._failed)} failed: {names}; their logs are above")

    def _round(self) -> None:
        try:
            for manifest in list(self._waiting):
                if len(self._active) < self.parallel and self._start(manifest):
                    self._waiting.remove(manifest)
            for job in list(self._active.values()):
                self._look(job)
            self._unanswered = 0
        except FailedError as error:
            self._unanswered += 1
            if self._unanswered >= _TOLERATED:
                raise
            self.say(f"{error}; trying again")

    def _start(self, manifest: dict[str, Any]) -> bool:
        """Create the job, or adopt the one of its name; False where that has to go first."""
        job = _Job(manifest)
        created = self.cluster.create(manifest)
        if not created and (before := self.cluster.see(job.kind, job.name)) and before.state == "failed":
            self.cluster.delete(job.kind, job.name)
            self.say(f"{job.stage}: removed {job.kind} {job.name}, which failed before")
            return False
        self._active[job.name] = job
        self.say(f"{job.stage}: {'submitted as' if created else 'found'} {job.kind} {job.name}")
        return True

    def _look(self, job: _Job) -> None:
        now = self.cluster.see(job.kind, job.name)
        if now is None or now.state == "deleted":
            # A cancelled submission's job on its way out, or somebody deleted it: its checkpoint is there.
            if now is None and self.cluster.create(job.manifest):
                self.say(f"{job.stage}: was gone; submitted again")
            return
        pods = self.cluster.pods(job.kind, job.name)
        for pod in pods:
            if pod.has_log and job.wants(pod):
                self._follow(job, pod)
        if now.state != job.state:
            job.state = now.state
            self.say(f"{job.stage}: {now.state}{f' ({now.why})' if now.why else ''}")
        if now.state in ("done", "failed"):
            self._end(job, pods)

    def _end(self, job: _Job, pods: list[Pod]) -> None:
        for reader in job.readers:
            reader.join(timeout=30)
        self._print()
        if job.state == "done":
            if self.finished(job.stage):
                self.say(f"{job.stage}: its result is here")
            else:
                self._failed[job.stage] = None
                self.say(f"{job.stage}: done, but its result is not in the DVC remote's run cache")
        else:
            statuses = [pod.status for pod in pods if pod.status]
            self._failed[job.stage] = 2 if 2 in statuses else None
        # Its log is told and its result is here: nothing of it is needed any longer, and a failed one would be in the
        # way of the next attempt.
        self.cluster.delete(job.kind, job.name)
        del self._active[job.name]

    def _follow(self, job: _Job, pod: Pod) -> None:
        def read() -> None:
            try:
                for line in self.cluster.follow(pod.name):
                    self._lines.put(f"{job.stage} [{pod.index}] {line}")
            except (FailedError, JobError) as error:
                self._lines.put(f"{job.stage} [{pod.index}] {error}")

        job.followed.add(pod.name)
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        job.readers.append(reader)

    def _print(self) -> None:
        while not self._lines.empty():
            self.say(self._lines.get())

    def _pause(self, stopping: Callable[[], bool]) -> None:
        until = time.monotonic() + self.poll
        while time.monotonic() < until and not stopping():
            time.sleep(min(0.2, self.poll))
            self._print()

    def _cancel(self) -> None:
        for job in list(self._active.values()):
            try:
                self.cluster.delete(job.kind, job.name)
                self.say(f"{job.stage}: cancelled {job.kind} {job.name}")
            except (FailedError, JobError) as error:
                self.say(f"{job.stage}: could not be cancelled: {error}")


class _Job:
    """A job under way: what of it was seen and told."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        self.kind: str = manifest["kind"]
        self.name: str = manifest["metadata"]["name"]
        self.stage: str = manifest["metadata"]["annotations"]["eclipse/stage"]
        self.state = "created"
        self.followed: set[str] = set()
        self.readers: list[threading.Thread] = []

    def wants(self, pod: Pod) -> bool:
        """Of a training the first node's log tells all; of an extraction each part's."""
        return pod.name not in self.followed and (self.kind != TRAINJOB or pod.index == 0)
