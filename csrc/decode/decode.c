#include "decode/decode.h"
#include <stddef.h>
#include <string.h>

static const struct protocol *const protocols[] = {
    &itch50_protocol,
    &tops16_protocol,
    &deep10_protocol,
};

int protocol_count(void) { return (int)(sizeof protocols / sizeof protocols[0]); }

const struct protocol *protocol_at(int index)
{
    return index >= 0 && index < protocol_count() ? protocols[index] : NULL;
}

const struct protocol *protocol_find(const char *name)
{
    for (int i = 0; i < protocol_count(); i++)
        if (strcmp(protocols[i]->name, name) == 0)
            return protocols[i];
    return NULL;
}
