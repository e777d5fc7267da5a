/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Runtimes: what an interpreter or a scheduler adds to a stack, taken at the moment of the event. Each has a header of its own
 * with a function that fills `taken` and gives back a number that says which path it is, never 0. A further runtime is added
 * here and to src/ledger/runtime/mod.rs.
 */
#pragma once

#include "kernel.h"

#define RUNTIME_BYTES 2048
#define SETTINGS_BYTES 256

/* What src/ledger/runtime/ found in a process: where things stand there. */
struct runtime {
	u32 number;
	u32 unused;
	u64 settings[SETTINGS_BYTES / 8];
};

struct runtime_taken {
	u64 words[RUNTIME_BYTES / 8];
};

static __always_inline u64 take_runtime(struct runtime *runtime, struct runtime_taken *taken)
{
	(void)taken;
	switch (runtime->number) {
	default:
		return 0;
	}
}
