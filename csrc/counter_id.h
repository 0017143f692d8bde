#pragma once
#include "count.h"

/* enum counter { COUNT_frames_received, ... }: for C only, Python asks counter_name(). */
#define COUNTER_ID(name, doc) COUNT_##name,
enum counter { COUNTERS(COUNTER_ID) COUNT_END };
#undef COUNTER_ID
#define COUNT(counters, name) ((counters)->value[COUNT_##name]++)
_Static_assert((int)COUNT_END <= (int)COUNTERS_MAX, "grow COUNTERS_MAX");
