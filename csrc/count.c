#include "counter_id.h"
#include <stddef.h>

#define COUNTER_NAME(name, doc) #name,
#define COUNTER_DOC(name, doc) doc,
static const char *const names[] = { COUNTERS(COUNTER_NAME) };
static const char *const docs[] = { COUNTERS(COUNTER_DOC) };

int counter_count(void) { return COUNT_END; }
const char *counter_name(int counter)
{
    return counter >= 0 && counter < COUNT_END ? names[counter] : NULL;
}
const char *counter_doc(int counter)
{
    return counter >= 0 && counter < COUNT_END ? docs[counter] : NULL;
}
int counter_drop_first(void) { return COUNT_drop_link_unknown; }
int counter_drop_last(void) { return COUNT_drop_untrusted_jump; }
