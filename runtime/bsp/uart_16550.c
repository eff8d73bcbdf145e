/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port 16550, which QEMU's board `virt` and many SoCs have; its speed is that which it starts with. */
#include "agent.h"
#include "agent_config.h"

#define REGISTER(index) (*(volatile unsigned char *)(AGENT_UART + (index)))
#define DATA REGISTER(0)
#define STATUS REGISTER(5)

enum { HAS_BYTE = 0x01, MAY_SEND = 0x20 };

void agent_uart_open(void);
void agent_uart_open(void)
{
}

unsigned char agent_get(void)
{
    while (!(STATUS & HAS_BYTE))
        ;
    return DATA;
}

void agent_put(unsigned char byte)
{
    while (!(STATUS & MAY_SEND))
        ;
    DATA = byte;
}
