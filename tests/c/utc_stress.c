/* A writer that turns as fast as it can, and readers that look whether what they copied is one
 * state. Every word of a view tells the turn, each in its own way.
 *
 *     utc_stress TURNS        prints the first violation; 0 when there was none
 */
#include "base/utc.c"    /* with the steps that -D took away */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

static struct utc shared;
static uint64_t turns, violations, over;

static uint64_t word_of(uint64_t turn, int i) { return turn * 0x9e3779b97f4a7c15 * (uint64_t)(2 * i + 1); }

static void *reading(void *unused)
{
    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
        struct view v;
        copy_view(&shared, &v);
        uint64_t words[WORDS];
        memcpy(words, &v, sizeof words);
        for (int i = 1; i < WORDS; i++)
            if (words[i] != words[0] * (uint64_t)(2 * i + 1) && __atomic_fetch_add(&violations, 1, __ATOMIC_RELAXED) == 0)
                fprintf(stderr, "violation: word %d is of another turn\n", i);
    }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t readers[2];
    turns = strtoull(argc > 1 ? argv[1] : "1000000", NULL, 10);
    for (int i = 0; i < 2; i++)
        pthread_create(&readers[i], NULL, reading, NULL);
    for (uint64_t turn = 1; turn <= turns; turn++) {
        uint64_t *own = (uint64_t *)&shared.own;
        for (int i = 0; i < WORDS; i++)
            own[i] = word_of(turn, i);
        publish(&shared);
        if (turn % 1024 == 0)
            sched_yield();
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    return violations != 0;
}
