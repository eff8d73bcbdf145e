/* SPDX-License-Identifier: Apache-2.0 */
/* Calls kernels as a stream of requests says and tells how long they took: what `bnncc tune` sends to a device.

   A request is three little-endian words (operation, a, b), and what belongs to it:
     WRITE at bytes, then the bytes    into the pool
     READ at bytes                     answers the bytes
     CALL kernel repeat, then the place of each parameter in the pool (`parameters[kernel]` words)
                                       answers two words: the nanoseconds of all calls, low word first (0 where
                                       the board has no clock)
     STOP
   `kernels.h` is generated: the pool's size, the kernels. */
#include <stdint.h>

#include "board.h"
#include "kernels.h"

enum operation { STOP = 0, WRITE = 1, READ = 2, CALL = 3 };

/* Kernels expect their buffers at cache lines. */
static unsigned char pool[POOL_BYTES] __attribute__((aligned(64)));

/* An emulator that counts instructions counts between these two; of their own, so that each begins a block. */
__attribute__((noinline)) void bnncc_count_begin(void)
{
    __asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) void bnncc_count_end(void)
{
    __asm__ volatile("" ::: "memory");
}

static int is_outside(uint32_t at, uint32_t bytes)
{
    return at > POOL_BYTES || bytes > POOL_BYTES - at;
}

static int call(uint32_t kernel, uint32_t repeat)
{
    uint32_t places[MOST_PARAMETERS], nanoseconds[2];
    void *pointers[MOST_PARAMETERS];
    uint64_t start, time;
    if (kernel >= KERNELS || board_read(places, 4 * parameters[kernel]))
        return 1;
    for (uint32_t i = 0; i < parameters[kernel]; i++) {
        if (is_outside(places[i], 0))
            return 1;
        pointers[i] = pool + places[i];
    }
    start = board_nanoseconds();
    bnncc_count_begin();
    for (uint32_t i = 0; i < repeat; i++)
        call_kernel(kernel, pointers);
    bnncc_count_end();
    time = board_nanoseconds() - start;
    nanoseconds[0] = (uint32_t)time;
    nanoseconds[1] = (uint32_t)(time >> 32);
    return board_write(nanoseconds, sizeof nanoseconds);
}

int main(void)
{
    uint32_t request[3];
    while (board_read(request, sizeof request) == 0) {
        switch (request[0]) {
        case WRITE:
            if (is_outside(request[1], request[2]) || board_read(pool + request[1], request[2]))
                return 2;
            break;
        case READ:
            if (is_outside(request[1], request[2]) || board_write(pool + request[1], request[2]))
                return 3;
            break;
        case CALL:
            if (call(request[1], request[2]))
                return 4;
            break;
        case STOP:
            return 0;
        default:
            return 5;
        }
    }
    return 6;
}
