#include "session/session.h"
#include <stddef.h>

/* In the order in which a stream of which nothing is known is tried: the surest signs first. */
static const struct framing *const framings[] = {
    &iextp_framing,
    &moldudp64_framing,
};

int framing_count(void) { return (int)(sizeof framings / sizeof framings[0]); }

const struct framing *framing_at(int index)
{
    return index >= 0 && index < framing_count() ? framings[index] : NULL;
}
