/* Exposure counts what was entered, not what was filled: an approved order weighs in full at
 * once, and only a report takes it out again. An order that never gets one (the line dropped,
 * the venue is silent) therefore stays, which errs on the safe side.
 *
 *   enter          working += size          gross += price x size
 *   fill           working -= size, position +-= size; the order's value leaves gross, the
 *                  change of the position's cost enters it
 *   cancel, reject working -= left          gross -= price x left
 *
 * The cost of a position is the value at which it was filled. A fill that shrinks a position
 * takes out cost in proportion (average cost, rounded down in what is taken), one that turns it
 * starts anew with the shares beyond zero. A position that was set from outside has cost 0.
 *
 * Rows are recycled oldest finished first, so an id is remembered (as a duplicate, and for a
 * fill that overtakes a cancel) until orders_max later ones have been entered.
 *
 * Bounds: price < 2^63 and size < 2^32, so one order is < 2^95 and ORDERS_MAX of them < 2^125.
 * Cost is capped at COST_MAX, so that cost x size and the sum over 2^24 instruments fit too. */
#include "trade/exposure.h"
#include "trade/price.h"
#include <errno.h>
#include <stdlib.h>

enum { ORDERS_MAX = 1 << 30 };
#define COST_MAX ((value_t)1 << 94)

_Static_assert(sizeof(struct sent_order) == 40, "padding is spelled out");
_Static_assert(sizeof(struct holding) == 32, "two to a line");

int exposure_create(struct exposure *exposure, uint32_t instruments, uint32_t orders_max)
{
    if (orders_max == 0 || orders_max > ORDERS_MAX)
        return -EINVAL;
    exposure->instruments = instruments;
    exposure->orders_max = orders_max;
    exposure->finished_first = exposure->finished_last = NO_ROW;
    exposure->orders = calloc(orders_max, sizeof *exposure->orders);
    exposure->holdings = calloc(instruments, sizeof *exposure->holdings);
    exposure->positions = calloc(instruments, sizeof *exposure->positions);
    if (!exposure->orders || !exposure->holdings || !exposure->positions)
        return -ENOMEM;
    return id_map_create(&exposure->ids, orders_max);
}

void exposure_destroy(struct exposure *exposure)
{
    free(exposure->orders);
    free(exposure->holdings);
    free(exposure->positions);
    id_map_destroy(&exposure->ids);
}

const struct sent_order *exposure_find(const struct exposure *exposure, uint64_t id)
{
    uint32_t row = id_map_find(&exposure->ids, id);
    return row == (uint32_t)NO_ROW ? NULL : &exposure->orders[row];
}

int exposure_has_room(const struct exposure *exposure)
{
    return exposure->orders_used < exposure->orders_max || exposure->finished_first != (uint32_t)NO_ROW;
}

static uint32_t take_row(struct exposure *exposure)
{
    if (exposure->orders_used < exposure->orders_max)
        return exposure->orders_used++;
    uint32_t row = exposure->finished_first;
    exposure->finished_first = exposure->orders[row].next_finished;
    if (exposure->finished_first == (uint32_t)NO_ROW)
        exposure->finished_last = NO_ROW;
    id_map_remove(&exposure->ids, exposure->orders[row].id);
    return row;
}

void exposure_enter(struct exposure *exposure, const struct event *order)
{
    uint32_t row = take_row(exposure);
    exposure->orders[row] = (struct sent_order){
        .id = order->order_id, .price = order->price, .instrument = order->instrument_id,
        .left = order->size, .side = order->side,
    };
    id_map_add(&exposure->ids, order->order_id, row);
    exposure->holdings[order->instrument_id].working[order->side == SIDE_ASK] += order->size;
    exposure->gross += (value_t)order->price * order->size;
    exposure->open++;
}

/* Takes `size` shares, at most what is left, out of the working ones. */
static void unwork(struct exposure *exposure, struct sent_order *order, uint32_t size)
{
    exposure->holdings[order->instrument].working[order->side == SIDE_ASK] -= size;
    exposure->gross -= (value_t)order->price * size;
    order->left -= size;
}

static void finish(struct exposure *exposure, struct sent_order *order)
{
    if (order->finished)
        return;
    uint32_t row = (uint32_t)(order - exposure->orders);
    unwork(exposure, order, order->left);
    order->finished = 1;
    order->next_finished = NO_ROW;
    if (exposure->finished_last == (uint32_t)NO_ROW)
        exposure->finished_first = row;
    else
        exposure->orders[exposure->finished_last].next_finished = row;
    exposure->finished_last = row;
    exposure->open--;
}

static int64_t add_saturating(int64_t a, int64_t b)
{
    int64_t sum;
    if (!__builtin_add_overflow(a, b, &sum))
        return sum;
    return b > 0 ? INT64_MAX : INT64_MIN;
}

/* The cost of a position of `held` shares after a fill of `size`; same: in its direction. */
static value_t cost_after(value_t cost, uint64_t held, uint32_t size, int64_t price, int same)
{
    if (same)
        cost += (value_t)price * size;
    else if (size <= held)
        cost -= held ? cost * size / held : 0;
    else
        cost = (value_t)price * (value_t)(size - held);
    return cost < COST_MAX ? cost : COST_MAX;
}

static void move_position(struct exposure *exposure, const struct sent_order *order, uint32_t size, int64_t price)
{
    struct holding *holding = &exposure->holdings[order->instrument];
    int64_t *position = &exposure->positions[order->instrument];
    int64_t change = order->side == SIDE_BID ? (int64_t)size : -(int64_t)size;
    uint64_t held = *position < 0 ? -(uint64_t)*position : (uint64_t)*position;
    int same = held == 0 || (*position < 0) == (change < 0);
    value_t cost = cost_after(holding->cost, held, size, price, same);
    exposure->gross += cost - holding->cost;
    holding->cost = cost;
    *position = add_saturating(*position, change);
}

static void fill(struct exposure *exposure, struct sent_order *order, const struct event *report,
                 struct risk_stats *stats)
{
    uint32_t open = order->left < report->size ? order->left : report->size;
    stats->reports_beyond += report->size > open;
    unwork(exposure, order, open);
    move_position(exposure, order, report->size, priced(report->price) ? report->price : order->price);
    if (order->left == 0)
        finish(exposure, order);
}

/* REJECT_VENUE tells the venue's rejects from those that risk_pass() made for orders which
 * never entered; one of a duplicate id must not end the order that has it. */
static int applies(const struct event *report)
{
    switch (report->kind) {
    case EVENT_ACK: case EVENT_FILL: case EVENT_CANCELED: return 1;
    case EVENT_REJECT: return report->aux == REJECT_VENUE;
    default: return 0;
    }
}

void exposure_report(struct exposure *exposure, const struct event *report, struct risk_stats *stats)
{
    if (!applies(report))
        return;
    uint32_t row = id_map_find(&exposure->ids, report->order_id);
    if (row == (uint32_t)NO_ROW) {
        stats->reports_unknown++;
        return;
    }
    struct sent_order *order = &exposure->orders[row];
    if (report->sequence && report->sequence <= order->sequence) {
        stats->reports_duplicate++;
        return;
    }
    if (report->sequence)
        order->sequence = report->sequence;
    stats->reports++;
    if (report->kind == EVENT_FILL)
        fill(exposure, order, report, stats);
    else if (report->kind != EVENT_ACK)
        finish(exposure, order);
}
