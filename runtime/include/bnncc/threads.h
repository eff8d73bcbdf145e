/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BNNCC_THREADS_H
#define BNNCC_THREADS_H

/*
 * Threads that share the layers of a run: one pool in each library, in static memory.
 *
 * A run that finds the pool free takes it until it ends; another run at the same time computes all by itself.
 * A layer is cut into pieces, which the run's own thread and the workers take one after the other. Nobody
 * waits for a worker that has not taken a piece, so one that the system does not let run holds up nobody.
 *
 * `ticket` tells which job it is (upper half) and how many of its pieces nobody has taken yet (lower half):
 * one compare-and-swap takes a piece, and fails where the job has changed in the meantime. A new job is
 * announced only when all pieces of the one before are done, so what a worker read of a job belongs to the
 * piece that it takes.
 *
 * Between layers workers look at the ticket again and again, as layers follow one another in microseconds;
 * between runs they sleep.
 */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

/* Computes piece `part` of `parts` of a layer. */
typedef void bnncc_piece(const void *work, int32_t part, int32_t parts);

struct bnncc_pool {
    pthread_mutex_t owner; /* Held by the run that uses the workers, and by who changes their number. */
    pthread_mutex_t lock; /* Guards sleep and wake. */
    pthread_cond_t wake;
    pthread_t *workers;
    int most; /* Workers that there is room for. */
    int wanted; /* Workers to start when a run begins. */
    int started;
    pid_t process; /* Where they were started: they do not live on in a forked child. */
    int running; /* Whether a run is on. */
    int stopping;
    uint64_t ticket;
    bnncc_piece *piece;
    const void *work;
    int32_t parts;
    int32_t done; /* Pieces. */
};

#define BNNCC_POOL(array, count) \
    {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, (array), (count), (count), \
     0, 0, 0, 0, 0, 0, 0, 0, 0}

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

/* Takes and computes pieces of the job that is on until none is left. */
static void bnncc_take_pieces(struct bnncc_pool *pool)
{
    uint64_t ticket = __atomic_load_n(&pool->ticket, __ATOMIC_ACQUIRE);
    while ((uint32_t)ticket != 0) {
        bnncc_piece *piece = __atomic_load_n(&pool->piece, __ATOMIC_RELAXED);
        const void *work = __atomic_load_n(&pool->work, __ATOMIC_RELAXED);
        const int32_t parts = __atomic_load_n(&pool->parts, __ATOMIC_RELAXED);
        if (__atomic_compare_exchange_n(
                &pool->ticket, &ticket, ticket - 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            piece(work, parts - (int32_t)(uint32_t)ticket, parts);
            __atomic_fetch_add(&pool->done, 1, __ATOMIC_RELEASE);
            ticket = __atomic_load_n(&pool->ticket, __ATOMIC_ACQUIRE);
        }
    }
}

static void *bnncc_worker(void *argument)
{
    struct bnncc_pool *pool = argument;
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
            bnncc_take_pieces(pool);
            bnncc_look_again(&looks);
        }
    }
}

/* As many workers as can be had; signals are none of theirs. */
static void bnncc_start_workers(struct bnncc_pool *pool)
{
    sigset_t all, before;
    if (pool->started && pool->process != getpid()) {
        /* What the condition knows of sleepers is of the parent's. */
        pthread_mutex_init(&pool->lock, 0);
        pthread_cond_init(&pool->wake, 0);
        pool->started = 0;
    }
    if (pool->started >= pool->wanted)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pool->process = getpid();
    while (pool->started < pool->wanted
           && pthread_create(&pool->workers[pool->started], 0, bnncc_worker, pool) == 0)
        ++pool->started;
    pthread_sigmask(SIG_SETMASK, &before, 0);
}

/* The owner's: ends all workers. */
static void bnncc_stop_workers(struct bnncc_pool *pool)
{
    if (pool->started && pool->process == getpid()) {
        pthread_mutex_lock(&pool->lock);
        pool->stopping = 1;
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
        while (pool->started > 0)
            pthread_join(pool->workers[--pool->started], 0);
        pool->stopping = 0;
    }
    pool->started = 0;
}

/* From now on `count` threads, the caller's one of them; those there were end. */
static void bnncc_set_threads(struct bnncc_pool *pool, int count)
{
    pthread_mutex_lock(&pool->owner);
    bnncc_stop_workers(pool);
    pool->wanted = count - 1;
    pthread_mutex_unlock(&pool->owner);
}

/* Where a run begins: the pool, if it is free and has workers, else 0. */
static struct bnncc_pool *bnncc_begin(struct bnncc_pool *pool)
{
    if (pthread_mutex_trylock(&pool->owner) != 0)
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
__attribute__((unused)) static void bnncc_share(struct bnncc_pool *pool, bnncc_piece *piece, const void *work, int32_t parts)
{
    int looks = 0;
    if (!pool) {
        piece(work, 0, 1);
        return;
    }
    __atomic_store_n(&pool->piece, piece, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->work, work, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->parts, parts, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->done, 0, __ATOMIC_RELAXED);
    __atomic_store_n(
        &pool->ticket,
        (((__atomic_load_n(&pool->ticket, __ATOMIC_RELAXED) >> 32) + 1) << 32) | (uint32_t)parts,
        __ATOMIC_RELEASE);
    bnncc_take_pieces(pool);
    while (__atomic_load_n(&pool->done, __ATOMIC_ACQUIRE) != parts)
        bnncc_look_again(&looks);
}

#endif /* BNNCC_THREADS_H */
