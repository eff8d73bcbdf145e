/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels to be measured by the agent, in its memory or linked with it. */
#include "agent.h"
#include "candidates.h"

extern const struct agent_image image;
__attribute__((section(".rodata.image"), used)) const struct agent_image image = {
    AGENT_MAGIC, IMAGE_NUMBER, call_candidate, pool, POOL_BYTES};
