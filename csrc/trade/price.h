#pragma once
#include "event.h"

/* What prices mean to orders. For C only. */

static inline int priced(int64_t price) { return price > 0 && price != UNDEF_PRICE; }
