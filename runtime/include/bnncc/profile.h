/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BNNCC_PROFILE_H
#define BNNCC_PROFILE_H

/* One layer; with BNNCC_PROFILE defined, hook(layer, 0) before it and hook(layer, 1) after it. */
#ifdef BNNCC_PROFILE
#define BNNCC_STEP(hook, layer, call) (hook((layer), 0), call, hook((layer), 1))
#else
#define BNNCC_STEP(hook, layer, call) (call)
#endif

#endif /* BNNCC_PROFILE_H */
