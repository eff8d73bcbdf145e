/*
 * Made by bnncc VERSION from tiny network.onnx; do not edit.
 * Target: x86-64-v3 (x86-64-v3)
 * Options: input-layout=nhwc
 *
 * How to use it:
 *
 *     #include "tiny.h"
 *
 *     static TINY_ALIGNED unsigned char arena[TINY_ARENA_BYTES];
 *     static float input_1[TINY_INPUT_1_ELEMENTS];
 *     static float logits[TINY_LOGITS_ELEMENTS];
 *
 *     int main(void)
 *     {
 *         return tiny_run(arena, input_1, logits);
 *     }
 *
 * Link with libtiny.a (and the mathematical library, -lm). No function allocates memory or prints, and
 * none keeps state between calls: threads may call at the same time, each with an arena of its own.
 */
#ifndef TINY_H
#define TINY_H
#define TINY_H_OF_tiny

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes when programs that call this library must be changed. */
#define TINY_ABI_VERSION 1

/* The memory that tiny_run works in, in bytes, and the alignment of its address. */
#define TINY_ARENA_BYTES 128
#define TINY_ARENA_ALIGNMENT 64

/* Constant weights within the library, in bytes. */
#define TINY_WEIGHTS_BYTES 36

/* Values of each input and output. */
#define TINY_INPUT_1_ELEMENTS 80
#define TINY_LOGITS_ELEMENTS 6

/* Stands before the declaration of an arena, as above. */
#if defined(__GNUC__)
#define TINY_ALIGNED __attribute__((aligned(64)))
#elif defined(_MSC_VER)
#define TINY_ALIGNED __declspec(align(64))
#elif defined(__cplusplus)
#define TINY_ALIGNED alignas(64)
#else
#define TINY_ALIGNED _Alignas(64)
#endif

/* What the functions return. */
enum tiny_status {
    TINY_OK = 0,
    /* A pointer is NULL. */
    TINY_ERROR_NULL = 1,
    /* The arena's address is no multiple of TINY_ARENA_ALIGNMENT. */
    TINY_ERROR_ALIGNMENT = 2,
    /* There is no such layer. Only the shared library's functions for tools return it. */
    TINY_ERROR_INDEX = 3
};

/*
 * Runs the network once. Returns TINY_OK, or another tiny_status; then nothing was written.
 *
 * arena: TINY_ARENA_BYTES bytes of the caller's, aligned to TINY_ARENA_ALIGNMENT.
 *     It needs no initial content, and nothing in it is needed after the call. It must not overlap inputs
 *     or outputs.
 * input_1: input 'input.1', float[2][40], row-major without gaps; values: numbers as the model was trained
 *     on; not NaN. The caller's, read only; aligned as its type.
 * logits: output '3.logits', float[2][3], row-major without gaps. The caller's, written wholly; must not
 *     overlap an input or another output; aligned as its type.
 */
int tiny_run(void *arena, const float *input_1, float *logits);

#ifdef BNNCC_PROFILE
#define TINY_LAYERS 2

/* Yours to define where the library was compiled with BNNCC_PROFILE: called before (after = 0) and after
 * (after = 1) each of the TINY_LAYERS layers that manifest.json lists. */
void tiny_on_layer(int layer, int after);
#endif

#ifdef __cplusplus
}
#endif

#elif !defined(TINY_H_OF_tiny)
#error "Two libraries are called tiny, in other capitals: compile one with another --name."
#endif /* TINY_H */
