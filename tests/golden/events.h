/*
 * Golden.
 *
 * How to use it:
 *
 *     #include "events.h"
 *
 *     static EVENTS_ALIGNED unsigned char arena[EVENTS_ARENA_BYTES];
 *     static EVENTS_ALIGNED unsigned char state[EVENTS_STATE_BYTES];
 *     static uint32_t x[EVENTS_X_ELEMENTS];
 *     static float s[EVENTS_S_ELEMENTS];
 *
 *     int main(void)
 *     {
 *         events_reset(state);
 *         for (;;) {
 *             int status = events_step(arena, state, x, s, NULL);
 *             if (status != EVENTS_OK)
 *                 return status;
 *         }
 *     }
 *
 * Link with libevents.a (and the mathematical library, -lm). No function allocates memory or prints, and
 * none keeps anything between calls but in the state: threads may call at the same time, each with
 * an arena and a state of its own.
 */
#ifndef EVENTS_H
#define EVENTS_H
#define EVENTS_H_OF_events

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes when programs that call this library must be changed. */
#define EVENTS_ABI_VERSION 1

/* The memory that events_step works in, in bytes, and the alignment of its address. */
#define EVENTS_ARENA_BYTES 320
#define EVENTS_ARENA_ALIGNMENT 64

/* The memory that a stream keeps between steps, in bytes, aligned as the arena. In it, each state as the
 * number of bytes before it; element [i][j]... is i * first stride + j * second stride... elements after
 * that. To begin with a state other than zero, write it there after events_reset. */
#define EVENTS_STATE_BYTES 896
/* 'm_in': float[1][4][6][7], strides 168, 1, 28, 4 */
#define EVENTS_M_IN_OFFSET 0

/* Constant weights within the library, in bytes. */
#define EVENTS_WEIGHTS_BYTES 0

/* Values of each input and output. */
#define EVENTS_X_ELEMENTS 42
#define EVENTS_S_ELEMENTS 168
#define EVENTS_M_ELEMENTS 168

/* Stands before the declaration of an arena, as above. */
#if defined(__GNUC__)
#define EVENTS_ALIGNED __attribute__((aligned(64)))
#elif defined(_MSC_VER)
#define EVENTS_ALIGNED __declspec(align(64))
#elif defined(__cplusplus)
#define EVENTS_ALIGNED alignas(64)
#else
#define EVENTS_ALIGNED _Alignas(64)
#endif

/* What the functions return. */
enum events_status {
    EVENTS_OK = 0,
    /* A pointer is NULL. */
    EVENTS_ERROR_NULL = 1,
    /* The arena's or the state's address is no multiple of EVENTS_ARENA_ALIGNMENT. */
    EVENTS_ERROR_ALIGNMENT = 2,
    /* There is no such layer. Only the shared library's functions for tools return it. */
    EVENTS_ERROR_INDEX = 3,
    /* Packed spikes have bits beyond their channels. */
    EVENTS_ERROR_SPIKES = 5,
    /* An event lies outside the input, or before the one in front of it. */
    EVENTS_ERROR_EVENT = 6
};

/*
 * Begins a new sequence: all states are zero. state: EVENTS_STATE_BYTES bytes of the caller's, aligned to
 * EVENTS_ARENA_ALIGNMENT. Returns EVENTS_OK, or another events_status; then nothing was written.
 */
int events_reset(void *state);

/*
 * Runs the network for one step. Returns EVENTS_OK, or another events_status; then nothing was written.
 *
 * arena: EVENTS_ARENA_BYTES bytes of the caller's, aligned to EVENTS_ARENA_ALIGNMENT.
 *     It needs no initial content, and nothing in it is needed after the call: streams that do not run at the
 *     same time may share it. It must not overlap inputs, outputs or the state.
 * state: EVENTS_STATE_BYTES bytes of the caller's, aligned as the arena, that events_reset has set
 *     and nothing but these functions changes: one for each stream.
 * x: input 'x', uint32_t[1][6][7][1], row-major without gaps; spikes[1][6][7][3], packed: channel c is bit c
 *     % 32 of word c / 32 of its pixel, bits beyond the channels are 0. The caller's, read only; aligned as
 *     its type.
 * s: output 's', float[1][4][6][7], row-major without gaps. The caller's, written wholly; must not overlap an
 *     input or another output; aligned as its type.
 * m: output 'm', float[1][4][6][7], row-major without gaps. The caller's, may be NULL, if it is not wanted;
 *     else written wholly; must not overlap an input or another output; aligned as its type.
 */
int events_step(void *arena, void *state, const uint32_t *x, float *s, float *m);

/*
 * Runs `steps` steps one after the other, from the state that is there: inputs and outputs hold that many,
 * without gaps. The rest is as for events_step.
 */
int events_run(void *arena, void *state, size_t steps, const uint32_t *x, float *s, float *m);

/*
 * A spike of an event camera at time t, in any unit. x below 7, y below 6, polarity p below 3.
 */
struct events_event {
    uint32_t t;
    uint16_t x;
    uint16_t y;
    uint8_t p;
};

/*
 * events_step with the `count` events of one step as the input, in any order; what comes twice counts once,
 * and t is not looked at. Returns EVENTS_OK, or another events_status (EVENTS_ERROR_EVENT
 * for an event out of range): then the states are as they were. events: the caller's, read only; may be NULL
 * if count is 0.
 */
int events_step_events(void *arena, void *state, const struct events_event *events, size_t count, float *s, float *m);

/*
 * Runs `steps` steps on events in order of time: step k takes those with start + k * step_length <= t
 * < start + (k + 1) * step_length, and later ones are left out. Times may wrap around once. Outputs as for
 * events_run. Returns EVENTS_ERROR_EVENT, and has run nothing, if one of the events is out of range or comes
 * before the one in front of it, or step_length is 0.
 */
int events_run_events(void *arena, void *state, const struct events_event *events, size_t count, uint32_t start, uint32_t step_length, size_t steps, float *s, float *m);

#ifdef BNNCC_PROFILE
#define EVENTS_LAYERS 4

/* Yours to define where the library was compiled with BNNCC_PROFILE: called before (after = 0) and after
 * (after = 1) each of the EVENTS_LAYERS layers that manifest.json lists. */
void events_on_layer(int layer, int after);
#endif

#ifdef __cplusplus
}
#endif

#elif !defined(EVENTS_H_OF_events)
#error "Two libraries are called events, in other capitals: compile one with another --name."
#endif /* EVENTS_H */
