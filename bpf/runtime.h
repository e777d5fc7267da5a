/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Runtimes: what an interpreter or a scheduler adds to a stack, taken at the moment of the event. Each has a header of its own
 * with a function that fills `taken` and gives back a number that says which path it is, never 0. A further runtime is added
 * here and to src/ledger/runtime/mod.rs.
 */
#pragma once

#include "go.h"
#include "python.h"

#define RUNTIME_BYTES 2048
#define SETTINGS_BYTES 256

/* Numbers of runtimes. */
#define PYTHON 1
#define GO 2

/* What src/ledger/runtime/ found in a process: where things stand there. */
struct runtime {
	u32 number;
	u32 unused;
	u64 settings[SETTINGS_BYTES / 8];
};

struct runtime_taken {
	u64 words[RUNTIME_BYTES / 8];
};

_Static_assert(sizeof(struct python) <= SETTINGS_BYTES && sizeof(struct python_taken) <= RUNTIME_BYTES, "no room");

static __always_inline u64 take_runtime(struct runtime *runtime, struct runtime_taken *taken)
{
	switch (runtime->number) {
	case PYTHON:
		return take_python((struct python *)runtime->settings, (struct python_taken *)taken);
	case GO:
		return take_go((struct go *)runtime->settings, (struct go_taken *)taken->words);
	default:
		return 0;
	}
}
