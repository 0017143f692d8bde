#include "engine/impl.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The engine made and asked. */

_Static_assert(ROUTES_MAX == FEEDS_MAX * LINES_ALL, "a route for each line");

int engine_create(const struct engine_config *config, struct ring *out, struct engine **engine)
{
    if (config->packets_max < 1 || config->packets_max > INT32_MAX || config->burst < 1 || config->burst > BURST_MAX
        || config->checksum_policy < CHECKSUM_IGNORE || config->checksum_policy > CHECKSUM_VERIFY)
        return -EINVAL;
    struct engine *made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    made->config = *config;
    made->out = out;
    made->reserve = EVENTS_PER_STEP + EVENTS_PER_PACKET;
    made->deadline_us = UINT64_MAX;
    made->stall_ticks = (uint64_t)(1e6 * STALL_NS / (double)ticks_ns(1000000));
    made->times = config->times != NULL ? config->times : &made->own_times;
    made->random = 1;
    ticks_cost();           /* measured now, not on the packet path */
    made->outlet = (struct outlet){ .ring = out, .counters = &made->counters };
    *engine = made;
    return 0;
}

void engine_destroy(struct engine *engine)
{
    if (engine == NULL)
        return;
    for (unsigned i = 0; i < engine->feeds_count; i++)
        feed_destroy(engine->feeds[i]);
    for (unsigned i = 0; i < engine->lanes_count; i++)
        free(engine->lanes[i]);
    free(engine);
}

int engine_add_source(struct engine *engine, struct source *source)
{
    if (engine->lanes_count == SOURCES_MAX)
        return -ENOSPC;
    struct lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return -ENOMEM;
    lane->source = source;
    lane->index = (uint16_t)engine->lanes_count;
    engine->lanes[engine->lanes_count] = lane;
    return (int)engine->lanes_count++;
}

static int add_routes(struct engine *engine, const struct feed_config *config)
{
    for (unsigned i = 0; i < LINES_ALL; i++) {
        const struct address *address = &config->lines[i];
        if (i >= config->arbiter.lines && (i != LINE_RECOVERY || address->len == 0))
            continue;
        if (route_of(engine, address->bytes, address->len, address->port) != NULL)
            return -EEXIST;
        engine->routes[engine->routes_count++] = (struct route){ *address, engine->feeds[engine->feeds_count], i };
    }
    return 0;
}

int engine_add_feed(struct engine *engine, const struct feed_config *config, struct feed **feed)
{
    if (engine->feeds_count == FEEDS_MAX)
        return -ENOSPC;
    int rc = feed_create(config, engine->feeds_count, engine->out, &engine->feeds[engine->feeds_count]);
    if (rc < 0)
        return rc;
    unsigned routes_count = engine->routes_count;
    rc = add_routes(engine, config);
    if (rc < 0) {
        feed_destroy(engine->feeds[engine->feeds_count]);
        engine->routes_count = routes_count;
        return rc;
    }
    engine->reserve += (uint64_t)EVENTS_PER_MESSAGE * config->arbiter.window;
    *feed = engine->feeds[engine->feeds_count];
    return (int)engine->feeds_count++;
}

uint64_t engine_reserve(const struct engine *engine) { return engine->reserve; }

void engine_stop(struct engine *engine) { atomic_store_explicit(&engine->stop, true, memory_order_relaxed); }

int engine_source_error(const struct engine *engine, int source)
{
    return source >= 0 && (unsigned)source < engine->lanes_count ? engine->lanes[source]->error : -EINVAL;
}

uint64_t engine_now(const struct engine *engine) { return engine->now; }
const struct counters *engine_counters(const struct engine *engine) { return &engine->counters; }
const struct engine_times *engine_times(const struct engine *engine) { return engine->times; }

struct feed *engine_feed(const struct engine *engine, unsigned index)
{
    return index < engine->feeds_count ? engine->feeds[index] : NULL;
}
