#pragma once
#include "session/session.h"

/* The rows of session.c. For C only. */

extern const struct framing moldudp64_framing;
extern const struct framing iextp_framing;
