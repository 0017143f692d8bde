#pragma once
#include "event.h"

/* For C only. A price that an order can have. */

static inline int priced(int64_t price) { return price > 0 && price != UNDEF_PRICE; }
