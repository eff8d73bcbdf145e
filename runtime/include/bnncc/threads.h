/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BNNCC_THREADS_H
#define BNNCC_THREADS_H

/*
 * Threads that share the layers of a run: one pool in each library, in static memory.
 *
 * A run that finds the pool free takes it until it ends; another run at the same time computes all by itself.
 * A layer is cut into pieces. Each thread has a share of its own, neighbouring pieces, the same ones in every
 * layer: what it reads was mostly written by itself and lies in its cache. It takes half of what is left of its
 * share at a time; when that is done it helps the others, from the end of their shares. Nobody waits for a worker
 * that has not taken a piece, so one that the system does not let run holds up nobody.
 *
 * A share tells which job it is of (upper half) and which of its pieces nobody has taken yet (lower half: the
 * first and the one after the last): one compare-and-swap takes some, and fails where the share has changed in
 * the meantime. A new job is announced only when all pieces of the one before are done, so what a worker read of
 * a job belongs to the pieces that it takes.
 *
 * Between layers workers look at their shares again and again, as layers follow one another in microseconds;
 * between runs they sleep.
 */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

/* Computes pieces first to end - 1 of a layer of so many. thread: who does, 0 the run's own thread; no two of a
 * run have the same number. */
typedef void bnncc_pieces(const void *work, int32_t first, int32_t end, int32_t pieces, int32_t thread);

/* What is left of one thread's share, alone in its cache lines. */
struct bnncc_share {
    uint64_t left;
    char apart[120];
};

struct bnncc_pool {
    pthread_mutex_t owner; /* Held by the run that uses the workers, and by who changes their number. */
    pthread_mutex_t lock; /* Guards sleep and wake. */
    pthread_cond_t wake;
    struct bnncc_share *shares; /* The run's own thread's first, then the workers'. */
    struct bnncc_worker *workers;
    int most; /* Workers that there is room for. */
    int wanted; /* Workers to start when a run begins. */
    int started;
    pid_t process; /* Whose all this is; 0 at first, -1 while it becomes another's. */
    int running; /* Whether a run is on. */
    int stopping;
    uint32_t job;
    bnncc_pieces *compute;
    const void *work;
    int32_t pieces;
    int32_t done; /* Of the pieces. */
};

struct bnncc_worker {
    pthread_t thread;
    struct bnncc_pool *pool;
    int number; /* Of its share: 1 and up. */
};

#define BNNCC_POOL(shares, workers, count) \
    {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, (shares), (workers), (count), \
     (count), 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* Looks before one lets other threads run; a look takes some 20 to 50 ns. */
#define BNNCC_LOOKS 2000

static void bnncc_look_again(int *looks)
{
    if (++*looks % BNNCC_LOOKS == 0)
        sched_yield();
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

/* Takes half of what is left of a thread's share, from its start if it is one's own, and computes it; returns 0
 * where nothing was left. */
static int bnncc_take(struct bnncc_pool *pool, int thread, int own)
{
    uint64_t *share = &pool->shares[thread].left;
    const int is_own = thread == own;
    uint64_t left = __atomic_load_n(share, __ATOMIC_ACQUIRE);
    for (;;) {
        int32_t first = (int32_t)(left >> 16 & 0xffff), end = (int32_t)(left & 0xffff);
        const int32_t taken = (end - first + 1) / 2;
        bnncc_pieces *compute = __atomic_load_n(&pool->compute, __ATOMIC_RELAXED);
        const void *work = __atomic_load_n(&pool->work, __ATOMIC_RELAXED);
        const int32_t pieces = __atomic_load_n(&pool->pieces, __ATOMIC_RELAXED);
        const uint64_t rest = is_own ? left + ((uint64_t)taken << 16) : left - (uint64_t)taken;
        if (taken == 0)
            return 0;
        if (!__atomic_compare_exchange_n(share, &left, rest, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            continue;
        if (is_own)
            end = first + taken;
        else
            first = end - taken;
        compute(work, first, end, pieces, own);
        __atomic_fetch_add(&pool->done, taken, __ATOMIC_RELEASE);
        return 1;
    }
}

/* Computes one's own share of a job, then what is left of the shares of the others. */
static void bnncc_work(struct bnncc_pool *pool, int own)
{
    const int threads = __atomic_load_n(&pool->started, __ATOMIC_RELAXED) + 1;
    int i, share = own;
    for (i = 0; i < threads; ++i, share = share + 1 < threads ? share + 1 : 0)
        while (bnncc_take(pool, share, own))
            ;
}

static void *bnncc_worker_main(void *argument)
{
    const struct bnncc_worker *worker = argument;
    struct bnncc_pool *pool = worker->pool;
    const uint64_t *own = &pool->shares[worker->number].left;
    uint32_t job = 0;
    for (;;) {
        int looks = 0;
        pthread_mutex_lock(&pool->lock);
        while (!__atomic_load_n(&pool->running, __ATOMIC_RELAXED) && !pool->stopping)
            pthread_cond_wait(&pool->wake, &pool->lock);
        if (pool->stopping) {
            pthread_mutex_unlock(&pool->lock);
            return 0;
        }
        pthread_mutex_unlock(&pool->lock);
        while (__atomic_load_n(&pool->running, __ATOMIC_ACQUIRE)) {
            const uint32_t now = (uint32_t)(__atomic_load_n(own, __ATOMIC_ACQUIRE) >> 32);
            if (now != job) {
                job = now;
                bnncc_work(pool, worker->number);
            }
            bnncc_look_again(&looks);
        }
    }
}

/* Whether the pool is this process's, which a forked child makes it first: there are no workers in it, and whatever
 * run the parent was in, whose mutexes, sleepers and shares the child has a copy of, ends in the parent. Returns 0
 * while another thread is about that. */
static int bnncc_is_ours(struct bnncc_pool *pool)
{
    const pid_t here = getpid();
    pid_t known = __atomic_load_n(&pool->process, __ATOMIC_ACQUIRE);
    int i;
    if (known == here)
        return 1;
    if (known == -1 || !__atomic_compare_exchange_n(&pool->process, &known, -1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return 0;
    pthread_mutex_init(&pool->owner, 0);
    pthread_mutex_init(&pool->lock, 0);
    pthread_cond_init(&pool->wake, 0);
    for (i = 0; i <= pool->most; ++i)
        pool->shares[i].left = 0;
    pool->started = pool->running = pool->stopping = 0;
    __atomic_store_n(&pool->process, here, __ATOMIC_RELEASE);
    return 1;
}

/* As many workers as can be had; signals are none of theirs. */
static void bnncc_start_workers(struct bnncc_pool *pool)
{
    sigset_t all, before;
    if (pool->started >= pool->wanted)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->started < pool->wanted) {
        struct bnncc_worker *worker = &pool->workers[pool->started];
        worker->pool = pool;
        worker->number = pool->started + 1;
        if (pthread_create(&worker->thread, 0, bnncc_worker_main, worker) != 0)
            break;
        __atomic_store_n(&pool->started, worker->number, __ATOMIC_RELAXED);
    }
    pthread_sigmask(SIG_SETMASK, &before, 0);
}

/* The owner's: ends all workers. */
static void bnncc_stop_workers(struct bnncc_pool *pool)
{
    int i;
    if (pool->started) {
        pthread_mutex_lock(&pool->lock);
        pool->stopping = 1;
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
        for (i = 0; i < pool->started; ++i)
            pthread_join(pool->workers[i].thread, 0);
        pool->stopping = 0;
    }
    pool->started = 0;
}

/* From now on `count` threads, the caller's one of them; those there were end. */
static void bnncc_set_threads(struct bnncc_pool *pool, int count)
{
    while (!bnncc_is_ours(pool))
        sched_yield();
    pthread_mutex_lock(&pool->owner);
    bnncc_stop_workers(pool);
    pool->wanted = count - 1;
    pthread_mutex_unlock(&pool->owner);
}

/* Where the program ends, or the library is unloaded: no thread must be left in its code. */
static void bnncc_end_threads(struct bnncc_pool *pool)
{
    if (pool->process == getpid() && pthread_mutex_trylock(&pool->owner) == 0) {
        bnncc_stop_workers(pool);
        pthread_mutex_unlock(&pool->owner);
    }
}

/* Where a run begins: the pool, if it is free and has workers, else 0. */
static struct bnncc_pool *bnncc_begin(struct bnncc_pool *pool)
{
    if (!bnncc_is_ours(pool) || pthread_mutex_trylock(&pool->owner) != 0)
        return 0;
    bnncc_start_workers(pool);
    if (pool->started == 0) {
        pthread_mutex_unlock(&pool->owner);
        return 0;
    }
    pthread_mutex_lock(&pool->lock);
    __atomic_store_n(&pool->running, 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    return pool;
}

static void bnncc_end(struct bnncc_pool *pool)
{
    if (!pool)
        return;
    __atomic_store_n(&pool->running, 0, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&pool->owner);
}

/* One layer, in pieces if there is a pool. */
__attribute__((unused)) static void bnncc_compute(
    struct bnncc_pool *pool, bnncc_pieces *compute, const void *work, int32_t pieces)
{
    int i, threads, looks = 0;
    if (!pool) {
        compute(work, 0, 1, 1, 0);
        return;
    }
    threads = pool->started + 1;
    ++pool->job;
    __atomic_store_n(&pool->compute, compute, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->work, work, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->pieces, pieces, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->done, 0, __ATOMIC_RELAXED);
    for (i = threads - 1; i >= 0; --i) {
        const uint32_t first = (uint32_t)(pieces * i / threads), end = (uint32_t)(pieces * (i + 1) / threads);
        __atomic_store_n(&pool->shares[i].left, (uint64_t)pool->job << 32 | first << 16 | end, __ATOMIC_RELEASE);
    }
    bnncc_work(pool, 0);
    while (__atomic_load_n(&pool->done, __ATOMIC_ACQUIRE) != pieces)
        bnncc_look_again(&looks);
}

#endif /* BNNCC_THREADS_H */
