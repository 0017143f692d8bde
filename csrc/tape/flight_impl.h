#pragma once
#include "base/shm.h"
#include "tape/flight.h"

/* The handle of a recorder, shared by flight.c (the protocol) and flight_file.c (the file) alone. */

struct flight {
    struct flight_header *header;
    uint8_t *ring;              /* mapped twice in a row */
    uint64_t bytes, mapped;
    uint64_t head, tail;        /* writer: its own; KEEP: the tail as last looked at */
    uint32_t snaplen;
    int keep, fd;
    uint16_t ports;             /* named */
    uint8_t id[FLIGHT_INTERFACES];      /* interface of a port's last frame */
    char path[SHM_PATH];        /* "" when anonymous */
};

/* Takes up the writer's work at the shared head. */
void flight_resume(struct flight *flight);
