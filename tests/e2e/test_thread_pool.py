# SPDX-License-Identifier: Apache-2.0
"""The pool of threads by itself: each piece of a job is computed once, and no share waits for its owner."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from bnncc import runtime

PROGRAM = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

enum { THREADS = 7, MOST = 300, JOBS = 20000 };
static struct bnncc_share shares[THREADS];
static struct bnncc_worker workers[THREADS - 1];
static struct bnncc_pool pool = BNNCC_POOL(shares, workers, THREADS - 1);

struct job {
    int32_t pieces;
    int sleeper; /* The piece that takes long: until `until` is set, or SECONDS are over. */
    const int *until;
    int times[MOST];
    pthread_t by[MOST];
    int is_busy[THREADS]; /* Whether the thread of this number computes. */
};

static void wait_for(const int *flag)
{
    const struct timespec moment = {0, 1000000};
    const time_t end = time(0) + SECONDS;
    while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE) && time(0) <= end)
        nanosleep(&moment, 0);
}

static void compute(const void *work, int32_t first, int32_t end, int32_t pieces, int32_t thread)
{
    struct job *job = (struct job *)work;
    if (thread < 0 || thread >= THREADS || __atomic_exchange_n(&job->is_busy[thread], 1, __ATOMIC_ACQUIRE))
        abort();
    for (; first < end; ++first) {
        job->by[first] = pthread_self();
        __atomic_fetch_add(&job->times[first], 1 + 1000 * (pieces != job->pieces), __ATOMIC_RELEASE);
        if (first == job->sleeper)
            wait_for(job->until);
    }
    __atomic_store_n(&job->is_busy[thread], 0, __ATOMIC_RELEASE);
}

static int all_once(const struct job *job)
{
    int32_t i, right = 0;
    for (i = 0; i < job->pieces; ++i)
        right += job->times[i] == 1;
    return right == job->pieces;
}

/* Jobs of any number of pieces, by so many threads. */
static int jobs(int threads)
{
    static struct job job;
    uint32_t i, random = 1;
    bnncc_set_threads(&pool, threads);
    for (i = 0; i < JOBS; ++i) {
        struct bnncc_pool *taken = bnncc_begin(&pool);
        memset(&job, 0, sizeof job);
        random = random * 1664525u + 1013904223u;
        job.pieces = taken ? 1 + (int32_t)((random >> 16) % MOST) : 1;
        job.sleeper = -1;
        bnncc_compute(taken, compute, &job, job.pieces);
        bnncc_end(taken);
        if (!all_once(&job) || (threads > 1 && !taken))
            return 0;
    }
    return 1;
}

/* The run's own thread sleeps in the first half of its share until the rest of it is done, by another one. */
static int helped(void)
{
    struct job job = {64, 0, &job.times[31], {0}, {0}, {0}};
    struct bnncc_pool *taken;
    bnncc_set_threads(&pool, 2);
    taken = bnncc_begin(&pool);
    bnncc_compute(taken, compute, &job, job.pieces);
    bnncc_end(taken);
    return all_once(&job) && pthread_equal(job.by[0], job.by[15]) && !pthread_equal(job.by[0], job.by[31]);
}

static void *run_long(void *work)
{
    struct bnncc_pool *taken = bnncc_begin(&pool);
    bnncc_compute(taken, compute, work, 64);
    bnncc_end(taken);
    return 0;
}

/* A child that is forked while another thread runs has a copy of a pool that is taken, with pieces left. */
static int forked(void)
{
    static int is_forked;
    static struct job job = {64, 0, &is_forked, {0}, {0}, {0}};
    pthread_t other;
    pid_t child;
    int status = -1;
    bnncc_set_threads(&pool, 2);
    pthread_create(&other, 0, run_long, &job);
    wait_for(&job.times[0]);
    child = fork();
    __atomic_store_n(&is_forked, 1, __ATOMIC_RELEASE);
    if (child == 0) {
        struct job before = job;
        _exit(!jobs(3) || !helped() || memcmp(&before, &job, sizeof job));
    }
    waitpid(child, &status, 0);
    pthread_join(other, 0);
    return status == 0 && all_once(&job);
}

int main(void)
{
    int threads;
    if (!helped())
        return 20;
    if (!forked())
        return 21;
    for (threads = 1; threads <= THREADS; threads += 2)
        if (!jobs(threads))
            return threads;
    bnncc_end_threads(&pool);
    puts("every piece once");
    return 0;
}
"""

TAKEN = "__atomic_compare_exchange_n(share, &left, rest, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)"


def run(
    folder: Path, change: tuple[str, str] | None = None, patience: int = 300
) -> subprocess.CompletedProcess[str]:
    """Build and run the program, with a part of the pool changed. patience: seconds after which it is ended,
    with its children."""
    text = (
        f"#define _POSIX_C_SOURCE 200809L\n#include <time.h>\n{runtime.header_text('threads.h')}\n{PROGRAM}"
    )
    if change:
        assert text.count(change[0]) == 1
        text = text.replace(*change)
    (folder / "main.c").write_text(text)
    waits = 2 if change else 300
    flags = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", f"-DSECONDS={waits}")
    subprocess.run(["cc", *flags, "main.c", "-o", "pool"], cwd=folder, check=True)
    return subprocess.run(["timeout", str(patience), folder / "pool"], capture_output=True, text=True)


def test_every_piece_is_computed_once(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (0, "every piece once\n")


def test_two_threads_that_take_the_same_pieces_are_noticed(tmp_path: Path) -> None:
    """Near miss. The run may then wait for ever."""
    hasty = "(nanosleep(&(struct timespec){0, 1}, 0), __atomic_store_n(share, rest, __ATOMIC_RELEASE), 1)"
    assert run(tmp_path, (TAKEN, hasty), patience=4).returncode != 0


def test_two_threads_of_one_number_are_noticed(tmp_path: Path) -> None:
    change = ("compute(work, first, end, pieces, own);", "compute(work, first, end, pieces, thread);")
    assert run(tmp_path, change).returncode == -signal.SIGABRT


def test_a_child_that_takes_the_pool_for_its_own_is_noticed(tmp_path: Path) -> None:
    """Near miss. It may then wait for ever."""
    change = ("const pid_t here = getpid();", "const pid_t here = 1;")
    assert run(tmp_path, change, patience=4).returncode != 0


def test_that_nobody_helps_is_noticed(tmp_path: Path) -> None:
    alone = run(tmp_path, ("for (i = 0; i < threads; ++i, share", "for (i = 0; i < 1; ++i, share"))
    assert alone.returncode == 20
