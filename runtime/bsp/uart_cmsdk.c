/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port of Arm's CMSDK, which the MPS2 and MPS3 boards have. */
#include "agent.h"
#include "agent_config.h"

#define REGISTER(offset) (*(volatile uint32_t *)(AGENT_UART + (offset)))
#define DATA REGISTER(0x00)
#define STATE REGISTER(0x04)
#define CONTROL REGISTER(0x08)
#define DIVIDER REGISTER(0x10)

enum { SENDING = 1, HAS_BYTE = 2, LEAST_DIVIDER = 16 };

void agent_uart_open(void);
void agent_uart_open(void)
{
    DIVIDER = AGENT_CLOCK / AGENT_BAUD > LEAST_DIVIDER ? AGENT_CLOCK / AGENT_BAUD : LEAST_DIVIDER;
    CONTROL = 3; /* both directions */
}

unsigned char agent_get(void)
{
    while (!(STATE & HAS_BYTE))
        ;
    return (unsigned char)DATA;
}

void agent_put(unsigned char byte)
{
    while (STATE & SENDING)
        ;
    DATA = byte;
}
