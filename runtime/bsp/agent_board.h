/* SPDX-License-Identifier: Apache-2.0 */
/* The agent on a board that our start-up code starts. `agent_config.h` is generated: AGENT_CORE, AGENT_CLOCK, the
   serial port's address, and AGENT_IMAGE where kernels are linked in. Memory between what the linker placed and the
   stack is for kernels. */
#ifndef BNNCC_AGENT_BOARD_H
#define BNNCC_AGENT_BOARD_H

#include "agent.h"
#include "agent_config.h"

enum { AGENT_STACK = 16384, AGENT_LINE = 64 };

extern uint32_t free_start, stack_top;

#ifdef AGENT_IMAGE
extern const struct agent_image image;
#define AGENT_BUILT_IN &image
#else
#define AGENT_BUILT_IN 0
#endif

void agent_uart_open(void);

static void board_main(void)
{
    static struct agent_board facts = {AGENT_CORE, AGENT_CLOCK, 0, 0};
    const uintptr_t start = ((uintptr_t)&free_start + AGENT_LINE - 1) / AGENT_LINE * AGENT_LINE;
    facts.ram = (unsigned char *)start;
    facts.ram_bytes = (uint32_t)((uintptr_t)&stack_top - AGENT_STACK - start);
    agent_uart_open();
    agent_main(&facts, AGENT_BUILT_IN);
}

static void board_exit(int status)
{
    (void)status;
    agent_crashed();
}

#endif /* BNNCC_AGENT_BOARD_H */
