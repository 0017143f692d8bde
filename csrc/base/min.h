#pragma once
#include <stdint.h>

static inline uint64_t min(uint64_t a, uint64_t b) { return a < b ? a : b; }
