/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin for QEMU's translator: how many instructions a program executes between its functions bnncc_count_begin
   and bnncc_count_end, a line on standard error for each pair. It is built for the machine that QEMU runs on; the
   few declarations of qemu-plugin.h that it needs (version 1 of the interface, QEMU 4.2 to 8.2) are repeated here,
   as distributions do not ship that header. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *instruction);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*call)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *block, void (*call)(unsigned, void *), int flags, void *data);

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

static uint64_t instructions;
static int counting;

static void begin(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    instructions = 0;
    counting = 1;
}

static void end(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    if (counting)
        fprintf(stderr, "bnncc instructions %" PRIu64 "\n", instructions);
    counting = 0;
}

/* data: how many instructions the block holds; it runs from its start to its end. */
static void block_runs(unsigned cpu, void *data)
{
    (void)cpu;
    if (counting)
        instructions += (uintptr_t)data;
}

static void block_translated(uint64_t id, struct qemu_plugin_tb *block)
{
    const char *symbol = qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(block, 0));
    (void)id;
    if (symbol && !strcmp(symbol, "bnncc_count_begin"))
        qemu_plugin_register_vcpu_tb_exec_cb(block, begin, 0, NULL);
    else if (symbol && !strcmp(symbol, "bnncc_count_end"))
        qemu_plugin_register_vcpu_tb_exec_cb(block, end, 0, NULL);
    else
        qemu_plugin_register_vcpu_tb_exec_cb(
            block, block_runs, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
    return 0;
}
