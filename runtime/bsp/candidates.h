/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels to be measured, and the pool of memory that they work in. `kernels.h` is generated: the pool's size, the
   kernels. */
#ifndef BNNCC_CANDIDATES_H
#define BNNCC_CANDIDATES_H

#include <stdint.h>

#include "count.h"
#include "kernels.h"

/* Kernels expect their buffers at cache lines. */
static unsigned char pool[POOL_BYTES] __attribute__((aligned(64), section(".bss.pool")));

static int is_outside(uint32_t at, uint32_t bytes)
{
    return at > POOL_BYTES || bytes > POOL_BYTES - at;
}

/* Call a kernel `repeat` times on parameters that lie at these places of the pool; by how much the clock went on.
   Returns 0 if there is such a kernel and all places are in the pool. */
static int call_candidate(
    uint32_t kernel, uint32_t repeat, const uint32_t *places, uint64_t (*clock)(void), uint64_t *taken)
{
    void *pointers[MOST_PARAMETERS];
    uint64_t start;
    if (kernel >= KERNELS)
        return 1;
    for (uint32_t i = 0; i < parameters[kernel]; i++) {
        if (is_outside(places[i], 0))
            return 1;
        pointers[i] = pool + places[i];
    }
    start = clock();
    bnncc_count_begin();
    for (uint32_t i = 0; i < repeat; i++)
        call_kernel(kernel, pointers);
    bnncc_count_end();
    *taken = clock() - start;
    return 0;
}

#endif /* BNNCC_CANDIDATES_H */
