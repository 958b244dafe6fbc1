"""Run tasks on this machine or on a cluster: processes, threads, dask, ray, SLURM.

MEDADAPT_BACKEND   loky (default), threading, dask, ray or slurm; the last three need the extra of that name. dask and
                   ray join the cluster of DASK_SCHEDULER_ADDRESS or RAY_ADDRESS, or start one here
MEDADAPT_SLURM_*   what each job asks SLURM for: PARTITION, TIME (minutes, default: a day), GPUS (folds only), CPUS,
                   MEMORY (GB); sbatch reads further options from SBATCH_*; CLUSTER=local runs the jobs on this machine
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from joblib import Parallel, delayed, parallel_config

from pipeline.errors import UserError

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job

Item = TypeVar("Item")
Result = TypeVar("Result")
Run = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]

JOBS = Path("data/scratch/slurm")  # of cases; those of folds have a folder of their own
A_DAY = 24 * 60  # minutes; submitit's own default is five, then it kills
ASKED_OF_SLURM = {"TIME": "timeout_min", "GPUS": "gpus_per_node", "CPUS": "cpus_per_task", "MEMORY": "mem_gb"}


@contextmanager
def engine(name: str, at_a_time: int) -> Iterator[Run]:
    """Start an engine, and yield what runs a function on each task and gives the results in the order of the tasks.

    Parameters
    ----------
    name : str
        A value of MEDADAPT_BACKEND.
    at_a_time : int
        How many tasks run in parallel.

    Raises
    ------
    UserError
        If there is no engine of that name, its package is not installed, or a job of SLURM fails.
    """
    if name in ("loky", "threading"):
        with parallel_config(backend=name):
            yield partial(_run, at_a_time, "generator")
    elif name == "slurm":
        yield partial(_run_on_slurm, at_a_time)
    elif name in ("dask", "ray"):
        cluster = dask_cluster if name == "dask" else ray_cluster
        with cluster(at_a_time), parallel_config(backend=name):
            yield partial(_run, at_a_time, "list")
    else:
        raise UserError(f"MEDADAPT_BACKEND is '{name}'; it takes loky, threading, dask, ray or slurm")


def _run(at_a_time: int, way: str, function: Callable[[Item], Result], tasks: Sequence[Item]) -> Iterable[Result]:
    parallel = Parallel(n_jobs=min(at_a_time, max(len(tasks), 1)), return_as=way)
    results: Iterable[Result] = parallel(delayed(function)(task) for task in tasks)
    return results


def _run_on_slurm(at_a_time: int, function: Callable[[Item], Result], tasks: Sequence[Item]) -> Iterator[Result]:
    executor = slurm_executor(JOBS, at_a_time, without=["GPUS"])
    for job in submitted(executor, function, list(tasks)):
        try:
            yield job.result()
        except RuntimeError as error:
            raise UserError(f"a job of SLURM failed, see {job.paths.stderr}: {error}") from error


@contextmanager
def dask_cluster(processes: int) -> Iterator[None]:
    """Join the dask cluster of DASK_SCHEDULER_ADDRESS, or start one of processes on this machine."""
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise UserError("MEDADAPT_BACKEND is 'dask', which is not installed: pip install 'medadapt[dask]'") from error
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    here = {"n_workers": processes, "threads_per_worker": 1, "dashboard_address": None}
    with Client(address) if address else Client(**here):
        yield


@contextmanager
def ray_cluster(processes: int) -> Iterator[None]:
    """Join the ray cluster of RAY_ADDRESS, or start one on this machine; leave it at the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would phone home
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise UserError("MEDADAPT_BACKEND is 'ray', which is not installed: pip install 'medadapt[ray]'") from error
    address = os.environ.get("RAY_ADDRESS")
    ray.init(address) if address else ray.init(num_cpus=processes, include_dashboard=False, log_to_driver=False)
    register_ray()
    try:
        yield
    finally:
        ray.shutdown()


def slurm_executor(folder: Path, at_a_time: int, without: Collection[str] = ()) -> "AutoExecutor":
    """Prepare to queue jobs on SLURM with the resources of the variables MEDADAPT_SLURM_*.

    Parameters
    ----------
    folder : path
        For jobs, results and SLURM's logs, on a disk that all nodes share.
    at_a_time : int
        How many jobs run in parallel.
    without : collection of str
        Variables that are not asked for, e.g. "GPUS".

    Raises
    ------
    UserError
        If submitit is not installed, there is no SLURM here, or a variable is not a number.
    """
    try:
        from submitit import AutoExecutor
    except ImportError as error:
        raise UserError("submitit, which talks to SLURM, is not installed: pip install 'medadapt[slurm]'") from error
    cluster = os.environ.get("MEDADAPT_SLURM_CLUSTER", "slurm")
    try:
        executor = AutoExecutor(folder, cluster=cluster)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"SLURM is not available ({error}); log in to its login node, or use --launcher local (of cases: loky)"
        ) from error
    partition = os.environ.get("MEDADAPT_SLURM_PARTITION")
    asked = {words: _asked_of_slurm(name) for name, words in ASKED_OF_SLURM.items() if name not in without}
    asked["timeout_min"] = asked["timeout_min"] or A_DAY
    executor.update_parameters(name="medadapt", slurm_partition=partition, slurm_array_parallelism=at_a_time, **asked)
    return executor


def _asked_of_slurm(name: str) -> int | None:
    given = os.environ.get(f"MEDADAPT_SLURM_{name}", "")
    if given and not given.isdigit():
        raise UserError(f"the environment variable MEDADAPT_SLURM_{name} is '{given}'; it takes a whole number")
    return int(given) if given else None


def submitted(executor: "AutoExecutor", function: Callable[[Item], Result], items: list[Item]) -> "list[Job[Result]]":
    """Queue one job per item; return submitit's handles in the order of the items.

    Raises
    ------
    UserError
        If SLURM rejects the jobs.
    """
    try:
        return executor.map_array(function, items) if items else []
    except RuntimeError as error:
        raise UserError(f"SLURM rejects the jobs ({error}); correct the variables MEDADAPT_SLURM_*") from error
