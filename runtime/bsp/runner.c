/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a network, or single layers of it, as a stream of requests says; for emulators.

   Beside those of requests.h, where `which` is the number of a memory (0 the arena, the state if there is one, then
   the inputs, then the outputs), there are three, which answer one word, the status:
     RUN                the network; one step of a network with states
     LAYER which        one layer
     WATCH              as RUN; before its answer come, after each layer of spiking neurons, the number of a region
                        of ports.h, the trip of the loop around the layer, and the bytes of that region */
#include "count.h"
#include "ports.h"
#include "requests.h"

enum { RUN = 3, LAYER = 4, WATCH = 5 };

static void *memory_of(uint32_t which, uint32_t bytes)
{
    return which < MEMORIES && bytes <= memories[which].bytes ? memories[which].start : NULL;
}

#if REGIONS > 0
static int unsent;

static void tell(int step, size_t trip)
{
    uint32_t about[2] = {0, (uint32_t)trip};
    for (; about[0] < REGIONS; ++about[0]) {
        const struct region *const region = &regions[about[0]];
        if (region->step != step)
            continue;
        if (board_write(about, sizeof about) ||
            board_write((const unsigned char *)memories[region->memory].start + region->offset, region->bytes))
            unsent = 1;
    }
}

static int watch(void)
{
    const int status = run_watched(tell);
    return status ? status : unsent;
}
#else
static int watch(void)
{
    return run_network();
}
#endif

static int answer(uint32_t operation, uint32_t which, uint32_t unused)
{
    uint32_t status;
    (void)unused;
    if (operation == WATCH) {
        status = (uint32_t)watch();
        return board_write(&status, sizeof status);
    }
    if (operation != RUN && operation != LAYER)
        return 1;
    bnncc_count_begin();
    status = (uint32_t)(operation == RUN ? run_network() : run_layer((int)which));
    bnncc_count_end();
    return board_write(&status, sizeof status);
}

int main(void)
{
    return serve();
}
