/* SPDX-License-Identifier: Apache-2.0 */
/* Calls kernels as a stream of requests says and tells how long they took: what `bnncc tune` sends to a device.

   Beside those of requests.h, where `which` is a place in the pool, there is one request:
     CALL kernel repeat, then the place of each parameter in the pool (`parameters[kernel]` words)
                                       answers two words: the nanoseconds of all calls, low word first (0 where
                                       the board has no clock) */
#include "candidates.h"
#include "requests.h"

enum { CALL = 3 };

static void *memory_of(uint32_t which, uint32_t bytes)
{
    return is_outside(which, bytes) ? NULL : pool + which;
}

static int answer(uint32_t operation, uint32_t kernel, uint32_t repeat)
{
    uint32_t places[MOST_PARAMETERS], words[2];
    uint64_t taken;
    if (operation != CALL || kernel >= KERNELS || board_read(places, 4 * parameters[kernel]))
        return 1;
    if (call_candidate(kernel, repeat, places, board_nanoseconds, &taken))
        return 1;
    words[0] = (uint32_t)taken;
    words[1] = (uint32_t)(taken >> 32);
    return board_write(words, sizeof words);
}

int main(void)
{
    return serve();
}
