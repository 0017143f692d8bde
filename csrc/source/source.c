#include "source/source.h"
#include "event.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

void source_close(struct source *source)
{
    if (source != NULL && source->ops->close != NULL)
        source->ops->close(source);
}

int source_stats(struct source *source, struct source_stats *stats)
{
    memset(stats, 0xff, sizeof *stats);
    return source->ops->stats != NULL ? source->ops->stats(source, stats) : 0;
}

int source_told(struct source *source, struct source_told *told)
{
    *told = (struct source_told){ .queues_wanted = 1, .queues = 1, .zero_copy = -1 };
    return source->ops->told != NULL ? source->ops->told(source, told) : 0;
}

const char *source_problem(struct source *source)
{
    return source->ops->problem != NULL ? source->ops->problem(source) : "";
}

int source_mbufs(struct source *source)
{
    return source->ops->mbufs != NULL ? source->ops->mbufs(source) : -EOPNOTSUPP;
}

int source_poll(struct source *source, int max)
{
    return source->ops->poll != NULL ? source->ops->poll(source, max) : -EOPNOTSUPP;
}

int source_link(struct source *source)
{
    return source->ops->link != NULL ? source->ops->link(source) : LINK_STATE_UNKNOWN;
}

int source_tick(struct source *source)
{
    return source->ops->tick != NULL ? source->ops->tick(source) : 0;
}

int source_steer(struct source *source, const struct address *address, char *reason)
{
    if (source->ops->steer != NULL)
        return source->ops->steer(source, address, reason);
    snprintf(reason, REASON_SIZE, "this kind of source has one queue");
    return -EOPNOTSUPP;
}

int source_groups(struct source *source, const uint8_t *macs, uint32_t count, char *reason)
{
    if (source->ops->groups != NULL)
        return source->ops->groups(source, macs, count, reason);
    snprintf(reason, REASON_SIZE, "this kind of source filters nothing");
    return -EOPNOTSUPP;
}
