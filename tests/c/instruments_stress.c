/* One process renames the same rows without end while another reads them.
 *
 *     instruments_stress RENAMES
 *
 * ends when the reader saw so many. Every byte of a row tells the same number. Prints the first mixed
 * rows; 0 when there was none. */

#include "ring/instruments.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 2, NAMES = 20 };

static struct instrument named(uint32_t number)
{
    struct instrument row = { .round_lot = number, .size_unit = (int8_t)number, .price_unit = (int8_t)number };
    memset(row.symbol, 'A' + (int)number, sizeof row.symbol - number);      /* another length each */
    memset(row.venue, 'A' + (int)number, sizeof row.venue);
    memset(row.currency, 'A' + (int)number, sizeof row.currency);
    return row;
}

static int whole(const struct instrument *row)
{
    struct instrument right = named(row->round_lot < NAMES ? row->round_lot : 0);
    right.version = row->version;
    return row->version % 2 == 0 && memcmp(&right, row, sizeof right) == 0;
}

static int reader(int fd, long wanted)
{
    struct instruments *table;
    struct instrument rows[ROWS], before = { 0 };
    long renames = 0, mixed = 0;
    if (instruments_attach(NULL, fd, 0, &table) < 0)
        return 3;
    while (renames < wanted && mixed < 5) {
        if (instruments_read(table, 0, ROWS, rows) != ROWS)
            return 3;
        renames += before.version != rows[0].version;
        before = rows[0];
        for (int row = 0; row < ROWS; row++)
            if (!whole(&rows[row])) {
                fprintf(stderr, "mixed: %.64s %.8s %u\n", rows[row].symbol, rows[row].venue, rows[row].round_lot);
                mixed++;
            }
    }
    return mixed != 0;
}

int main(int argc, char **argv)
{
    struct instruments *table;
    if (argc != 2 || instruments_create(NULL, 1, &table) < 0)
        return 3;
    uint32_t number = 0;
    for (uint32_t row = 0; row < ROWS; row++) {
        struct instrument first = named(0);
        instruments_set(table, row, &first);
    }
    pid_t child = fork();
    if (child == 0)
        _exit(reader(instruments_fd(table), atol(argv[1])));
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0)
        for (int i = 0; i < 4096; i++) {
            struct instrument row = named(number = (number + 1) % NAMES);
            instruments_set(table, (uint32_t)i % ROWS, &row);
        }
    instruments_close(table);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}
