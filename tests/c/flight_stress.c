/* Puts frames into a named flight recorder until it is killed.
 *
 *     flight_stress NAME FIRST ACK BURST
 *     flight_stress NAME PATH             dumps it instead
 *
 * Frames are numbered from FIRST; every byte of one tells its number. After each burst the next
 * number is written to the file ACK. Made here with -D, the protocol lacks a step. */

#include <sched.h>
#include <stdint.h>

/* Now and then gives the processor away in the middle of a frame, as an interrupt would. */
static void pause_sometimes(void)
{
    static uint32_t random = 1;
    random = random * 1664525 + 1013904223;
    if (random >> 22 == 0)
        for (int i = 0; i < 20; i++)
            sched_yield();
}
#define FLIGHT_PAUSE pause_sometimes();

#include "tape/flight.c"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { LENGTH_MAX = 9000, BURST = 64 };

static uint32_t length_of(uint64_t number)
{
    uint64_t mixed = number * 0x9e3779b97f4a7c15 >> 40;
    return mixed % 16 == 0 ? 60 + (uint32_t)(mixed % LENGTH_MAX) : 60 + (uint32_t)(mixed % 1400);
}

static void fill(uint8_t *data, uint64_t number, struct packet *packet)
{
    uint32_t length = length_of(number);
    memcpy(data, &number, 8);
    for (uint32_t i = 8; i < length; i++)
        data[i] = (uint8_t)(number * 7 + i);
    *packet = (struct packet){
        .data = data, .ts_recv = number, .caplen = length, .wirelen = length + 4, .link = 1,
        .port = (uint16_t)(number % 3),
    };
}

static int dump(const char *name, const char *path)
{
    struct flight *flight;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    return flight_attach(name, -1, 0, &flight) < 0 || fd < 0 || flight_dump(flight, fd, 0) < 0;
}

int main(int argc, char **argv)
{
    static uint8_t data[BURST][60 + LENGTH_MAX];
    struct packet packets[BURST];
    struct flight *flight;
    if (argc == 3)
        return dump(argv[1], argv[2]);
    if (argc != 5)
        return 2;
    uint64_t next = strtoull(argv[2], NULL, 10);
    int burst = atoi(argv[4]), rc = flight_attach(argv[1], -1, 1, &flight);
    int ack = open(argv[3], O_RDWR);
    if (rc < 0 || ack < 0 || burst < 1 || burst > BURST)
        return fprintf(stderr, "attach: %s\n", strerror(-rc)), 1;
    uint64_t *acked = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, ack, 0);
    for (;;) {
        for (int i = 0; i < burst; i++)
            fill(data[i], next++, &packets[i]);
        if (flight_put(flight, packets, burst) != burst)
            return 3;
        __atomic_store_n(acked, next, __ATOMIC_RELEASE);
    }
}
