/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a network, or single layers of it, as a stream of requests says; for emulators.

   Beside those of requests.h, where `which` is the number of a memory (0 the arena, the state if there is one, then
   the inputs, then the outputs), there are two, which answer one word, the status:
     RUN                the network; one step of a network with states
     LAYER which        one layer */
#include "count.h"
#include "ports.h"
#include "requests.h"

enum { RUN = 3, LAYER = 4 };

static void *memory_of(uint32_t which, uint32_t bytes)
{
    return which < MEMORIES && bytes <= memories[which].bytes ? memories[which].start : NULL;
}

static int answer(uint32_t operation, uint32_t which, uint32_t unused)
{
    uint32_t status;
    (void)unused;
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
