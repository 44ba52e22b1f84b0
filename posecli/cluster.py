"""Inputs and segments as tasks on a Ray cluster: actors hold the model, Ray places, retries and reports.

What a task does is what one process does (`infer_files.run_jobs`, `segments.run_segment`). Its result is a stream
under its final name; so a worker or a driver that is killed loses at most what was under way. A killed actor is
started again by Ray and its task tried again. Inputs and outputs are paths that mean the same on all machines, or stand
on storage.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from posecli.errors import PoseError
from posecli.files import replace_when_done
from posecli.infer_files import run_jobs
from posecli.infer_jobs import Job, Summary
from posecli.infer_options import InferOptions
from posecli.inference import PoseModel, load_model
from posecli.on_ray import TRIES, Cluster, Failure, connected, failure_of, room
from posecli.person_boxes import BoxLookup, read_boxes, whole_picture
from posecli.readout import PredictOptions
from posecli.segments import Segment, run_segment
from posecli.smoothing.stream import Smoothing
from posecli.storage import Storage, is_stored

__all__ = ["Cluster", "Failure", "Recipe", "run_on_cluster", "run_task"]

Task = Job | Segment


@dataclass(frozen=True)
class Recipe:
    """All that a process needs to do a task: what to load and how to run it."""

    weights: str
    device: str
    release: str | None
    box_weights: str | None
    rescore: str | None
    predict: PredictOptions
    options: InferOptions
    boxes: str | None
    box_min_score: float
    box_nms: float
    smoothing: Smoothing
    speed: str
    storage: Storage | None = None

    def load(self, warn: Callable[[str], None]) -> tuple[PoseModel, BoxLookup | None]:
        """The model and, for top-down models that are given them, the boxes."""
        weights, box_weights, rescore, boxes = map(
            self._here, (self.weights, self.box_weights, self.rescore, self.boxes)
        )
        assert weights is not None
        model = load_model(
            weights, self.device, release=self.release, box_weights=box_weights, rescore=rescore,
            options=self.predict, warn=warn, speed=self.speed,
        )  # fmt: skip
        if boxes is None:
            return model, None
        if boxes == "full":
            return model, whole_picture(float(model.meta.extra.get("box_scale", 1.25)))
        return model, read_boxes(boxes, self.box_min_score, self.box_nms, warn)

    def _here(self, path: str | None) -> str | None:
        """The copy, on this machine, of what stands on storage."""
        if path is None or self.storage is None or not is_stored(path):
            return path
        return str(self.storage.fetch(path))


def run_task(task: Task, recipe: Recipe, model: PoseModel, boxes: BoxLookup | None) -> Summary:
    """Does one task; its stream is complete or absent. PoseError as `run_jobs` and `run_segment`.

    What stands in for files on storage is handed over, the stream last.
    """
    summary = _run_task(task, recipe, model, boxes)
    for place in (summary.overlay, summary.stream):
        if place is not None and recipe.storage is not None and recipe.storage.owns(place):
            recipe.storage.send(place)
    return summary


def _run_task(task: Task, recipe: Recipe, model: PoseModel, boxes: BoxLookup | None) -> Summary:
    if isinstance(task, Segment):
        return run_segment(task, model, recipe.options, boxes=boxes)
    assert task.stream is not None
    with replace_when_done(task.stream) as place:
        (summary,) = run_jobs(
            [replace(task, stream=place)], model, recipe.options, boxes=boxes, smoothing=recipe.smoothing,
            overwrite=True,
        )  # fmt: skip
    summary.stream = str(task.stream)
    return summary


class _Worker:
    """An actor: loads once, then does one task after the other."""

    def __init__(self, recipe: Recipe, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.warnings: list[str] = []
        self.recipe = recipe
        self.model, self.boxes = recipe.load(self.warnings.append)

    def run(self, task: Task) -> Summary | Failure:
        try:
            return run_task(task, self.recipe, self.model, self.boxes)
        except (PoseError, OSError) as error:
            return Failure(task_name(task), str(error))


def task_name(task: Task) -> str:
    """What a task is called in messages."""
    if isinstance(task, Segment):
        return f"{task.job.input.name}, frames {task.span.first} to {task.span.stop - 1}"
    return task.input.name


def run_on_cluster(tasks: Sequence[Task], recipe: Recipe, cluster: Cluster) -> Iterator[tuple[Task, Summary | Failure]]:
    """Yields each task with what came of it, as they are finished; a failure does not stop the others.

    Raises:
        PoseError: no such cluster, or no room in it for a worker.
        MissingExtra: without Ray.
    """
    if not tasks:
        return
    with connected(cluster.address) as ray:
        count = room(ray.cluster_resources(), cluster)
        count = min(count if cluster.workers is None else cluster.workers, len(tasks))
        actor = ray.remote(
            num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_restarts=-1, max_task_retries=TRIES
        )(_Worker)  # fmt: skip
        # Handed over itself, not as an object in the store: were that lost with a machine, no worker could start again.
        everywhere = _absolute_recipe(recipe)
        idle = [actor.remote(everywhere, max(1, int(cluster.cpus))) for _ in range(count)]
        waiting = list(reversed(tasks))
        running: dict[Any, tuple[Any, Task]] = {}
        while waiting or running:
            while idle and waiting:
                worker, task = idle.pop(), waiting.pop()
                running[worker.run.remote(_absolute(task))] = worker, task
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            worker, task = running.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayActorError as error:
                # The worker could not be made, or died again and again over this task.
                result = failure_of(task_name(task), error)
                worker = actor.remote(everywhere, max(1, int(cluster.cpus)))
            except ray.exceptions.RayError as error:
                result = failure_of(task_name(task), error)
            idle.append(worker)
            yield task, result


def _absolute(task: Task) -> Task:
    if isinstance(task, Segment):
        job = _absolute(task.job)
        assert isinstance(job, Job)
        return replace(task, job=job, place=Path(os.path.abspath(task.place)))
    given = task.input
    if given.kind in ("video", "pictures") and not is_stored(given.path):
        given = replace(given, path=os.path.abspath(given.path))
    stream, overlay = (p and Path(os.path.abspath(p)) for p in (task.stream, task.overlay))
    return replace(task, input=given, stream=stream, overlay=overlay)


def _absolute_recipe(recipe: Recipe) -> Recipe:
    def place(path: str | None) -> str | None:
        if path is not None and recipe.storage is not None and recipe.storage.owns(path):
            return recipe.storage.url(path)
        return os.path.abspath(path) if path is not None and os.path.exists(path) else path

    return replace(
        recipe, weights=place(recipe.weights) or recipe.weights, box_weights=place(recipe.box_weights),
        rescore=place(recipe.rescore), boxes=place(recipe.boxes),
    )  # fmt: skip
